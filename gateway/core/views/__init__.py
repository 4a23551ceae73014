"""What each role sees over SFTP, and may do there: one view a role.

Here: folders, files and what may be done with them; what lies outside a view is refused like what does not
exist. Not here: SFTP (`gateway.doors.sftp`), and moving a document (`intake`, `filing`).
"""

from __future__ import annotations

from gateway.core.intake.intake import Intake
from gateway.core.login.accounts import Account
from gateway.core.views.accountant import AccountantView
from gateway.core.views.base import View
from gateway.core.views.client import ClientView
from gateway.core.views.oversight import AuditorView, OfficerView
from gateway.errors import Refusal

_VIEWS: dict[str, type[View]] = {
    "client": ClientView,
    "accountant": AccountantView,
    "archivist": AccountantView,
    "officer": OfficerView,
    "auditor": AuditorView,
}


def view_for(intake: Intake, account: Account) -> View:
    """The view of an account's role.

    Raises:
        Refusal: the role has nothing to see over SFTP.
    """
    kind = _VIEWS.get(account.role)
    if kind is None:
        raise Refusal("denied", "This account has no files here.")
    return kind(intake, account)
