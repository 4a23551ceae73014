"""Filing: a document is put in its place, by its class and for its time.

Here: retention as stored, review by a person, restricted documents. Not here: the rules (`retention_rules`),
and the end of that time (`gateway.core.disposal`).

    await review.reclassify(core, document, "invoice", 2026, actor)
"""
