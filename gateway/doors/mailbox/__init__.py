"""The mailbox door: fetches mail from mailboxes that others keep (IMAP), for firms without a mail server.

Here: looking into mailboxes, sealing each message while it comes, and marking those that are stored. Not
here: whose a message is and whether it is new, which the core says, and taking it apart
(`gateway.inspect`).
"""
