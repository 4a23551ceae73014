"""Disposal: what may be destroyed, who approves, how it is done, and the certificate.

Here: eligibility, batches, signatures, execution, searches for what is left, certificates. Not here: what the
rules say (`retention_rules`), and ending a key group (`gateway.core.keys`).

    (batch,) = await proposal.propose(core, actor, "acme")
    await proposal.decide(core, batch, officer, "approve", signature)  # and another officer
    certificate = await execution.execute(disposal, batch, third_person)
"""
