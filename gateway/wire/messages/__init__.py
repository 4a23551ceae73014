"""What the processes may say to each other, one module for each socket.

Promises: every message is a tagged `msgspec` struct. A connection carries requests one way and exactly one
reply to each the other way, in order. Which socket a connection came in by decides which union its requests
are decoded with (`REQUESTS`), so a door cannot even express what it has no right to ask.
Leaves out: framing (`gateway.wire.channel`), and whatever a process does with a message.

Rules:
    - Descriptors travel beside a message (SCM_RIGHTS), never in it: the docstring of a reply says which.
    - Paths are those of the virtual tree that people see; they never reach a file system.
    - Times are ISO 8601 strings with offset, digests are raw bytes, sizes are bytes.

Usage:
    >>> decode = msgspec.msgpack.Decoder(REQUESTS["smtp"]).decode
    >>> decode(msgspec.msgpack.encode(Stat("/inbox")))
    ValidationError: Invalid value 'Stat' - at `$.type`
"""

from __future__ import annotations

from typing import Any, Final, Literal

from gateway.wire.messages.admin import (
    AdminAnswer,
    AdminCall,
    AdminReply,
    AdminRequest,
    Challenge,
    ChallengeAnswer,
)
from gateway.wire.messages.common import (
    PATH_BYTES,
    SHA256_SIZE,
    Abandon,
    Commit,
    CommonReply,
    Done,
    Message,
    NoWork,
    Readable,
    RefusalCode,
    Refused,
    Writable,
)
from gateway.wire.messages.courier import (
    ClaimTransfer,
    CourierReply,
    CourierRequest,
    Letter,
    Transfer,
    TransferReport,
    TransferVerb,
)
from gateway.wire.messages.inspector import (
    DETAIL,
    IGNORED,
    INVOICE_BY_LINK,
    BeginPart,
    Claim,
    Classification,
    InspectRequest,
    Lock,
    MailReport,
    MethodResult,
    Proving,
    Scan,
    Signature,
    Verdict,
    Work,
)
from gateway.wire.messages.mailbox import (
    BeginFetched,
    MailboxReport,
    MailboxRequest,
    NewMessages,
    WhichAreNew,
)
from gateway.wire.messages.resolver import (
    ClaimQuestion,
    Question,
    QuestionAnswer,
    ResolverRequest,
)
from gateway.wire.messages.sftp import (
    Attributes,
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
    BeginUpload,
    Entry,
    ExchangeSignature,
    Farewell,
    Greet,
    Greeting,
    HostKey,
    HostKeyProofs,
    Keep,
    Kept,
    List,
    MakeFolder,
    Mismatch,
    OpenRead,
    Page,
    Predecessor,
    ProveHostKeys,
    Remove,
    Rename,
    Room,
    SftpReply,
    SftpRequest,
    SignExchange,
    Space,
    Stat,
)
from gateway.wire.messages.smtp import (
    CREDENTIAL,
    MESSAGE_ID,
    AuthenticateSubmission,
    BeginMail,
    CommitMail,
    MailRecipient,
    MailStored,
    RecipientAnswer,
    SmtpReply,
    SmtpRequest,
    SubmissionLogin,
)

Reply = (
    CommonReply | SftpReply | SmtpReply | Work | CourierReply | Question | NewMessages | AdminReply
)

Role = Literal["sftp", "smtp", "inspect", "courier", "resolver", "mailbox", "admin"]

REQUESTS: Final[dict[Role, Any]] = {
    "sftp": SftpRequest,
    "smtp": SmtpRequest,
    "inspect": InspectRequest,
    "courier": CourierRequest,
    "resolver": ResolverRequest,
    "mailbox": MailboxRequest,
    "admin": AdminRequest,
}

__all__ = [
    "CREDENTIAL",
    "DETAIL",
    "IGNORED",
    "INVOICE_BY_LINK",
    "MESSAGE_ID",
    "PATH_BYTES",
    "REQUESTS",
    "SHA256_SIZE",
    "Abandon",
    "AdminAnswer",
    "AdminCall",
    "Attributes",
    "AuthenticateCode",
    "AuthenticateKey",
    "AuthenticatePassword",
    "AuthenticateSubmission",
    "AuthenticationResult",
    "BeginFetched",
    "BeginMail",
    "BeginPart",
    "BeginUpload",
    "Challenge",
    "ChallengeAnswer",
    "Claim",
    "ClaimQuestion",
    "ClaimTransfer",
    "Classification",
    "Commit",
    "CommitMail",
    "Done",
    "Entry",
    "ExchangeSignature",
    "Farewell",
    "Greet",
    "Greeting",
    "HostKey",
    "HostKeyProofs",
    "Keep",
    "Kept",
    "Letter",
    "List",
    "Lock",
    "MailRecipient",
    "MailReport",
    "MailStored",
    "MailboxReport",
    "MakeFolder",
    "Message",
    "MethodResult",
    "Mismatch",
    "NewMessages",
    "NoWork",
    "OpenRead",
    "Page",
    "Predecessor",
    "ProveHostKeys",
    "Proving",
    "Question",
    "QuestionAnswer",
    "Readable",
    "RecipientAnswer",
    "RefusalCode",
    "Refused",
    "Remove",
    "Rename",
    "Reply",
    "Role",
    "Room",
    "Scan",
    "SignExchange",
    "Signature",
    "Space",
    "Stat",
    "SubmissionLogin",
    "Transfer",
    "TransferReport",
    "TransferVerb",
    "Verdict",
    "WhichAreNew",
    "Work",
    "Writable",
]
