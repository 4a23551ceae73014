"""What the gateway says by itself: receipts to who sent documents, notices to who must act.

Here, in the order in which it happens: `follow` reads the ledger and notes what is to be said, to whom and
when; `conditions` puts into the ledger what is not as it should be (a late backup, a key near its end);
`kind` is the kind of delivery that brings it to the relay or a webhook; `composing` makes the message when it
is carried, from `receipts` (what a receipt states) and `topics` (what a notice is about), in the words of
`words` and `phrases`, and `mail` gives it its form. `listing` shows what was said, waits or failed; `Notices`
holds what they share.

Not here: trying again (`gateway.core.outbound.outbox`), and speaking to the relay (`gateway.courier`).
"""
