"""The resolver: the one role that asks the network what domains publish about their mail (DNS).

Here: DNS questions to the resolvers of the configuration, and SPF, which consists of such questions. Not
here: any byte of a message, and what follows from an answer (`gateway.core.intake.senders`).
"""
