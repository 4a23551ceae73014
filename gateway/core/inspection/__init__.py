"""Inspection as the core sees it: who is next, who has what in hand, and what a verdict does.

Here: the queue, claims, judgement, verdicts and their recording, fixity, whether clamd is there. Not here:
opening a document, which is the inspectors' alone (`gateway.inspect`).

    work, descriptor, claimed, fixity = await queue.claim()
    await queue.verdict(claimed, verdict, fixity)
"""
