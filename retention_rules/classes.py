"""The record classes every installation knows.

Their keys are folder names at the SFTP edge and values in the catalogue: once shipped, a key
stays. A pack may add classes of its own (`[[record_class]]`); it may not redefine one of these.
Chinese titles follow the schedule of Order 79 (会计档案管理办法) where it names the class.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from retention_rules.model import RecordClass

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALL: Final = (
    RecordClass("invoice", "Invoice", "发票"),
    RecordClass("bank-receipt", "Bank receipt", "银行回单"),
    RecordClass("payroll", "Payroll", "工资表"),
    RecordClass("contract", "Contract", "合同"),
    RecordClass("source-voucher", "Other source voucher", "其他原始凭证"),
    RecordClass("bookkeeping-voucher", "Bookkeeping voucher", "记账凭证"),
    RecordClass("general-ledger", "General ledger", "总账"),
    RecordClass("subsidiary-ledger", "Subsidiary ledger", "明细账"),
    RecordClass("journal", "Journal", "日记账"),
    RecordClass("auxiliary-ledger", "Other auxiliary ledger", "其他辅助性账簿"),
    RecordClass("fixed-asset-card", "Fixed asset card", "固定资产卡片"),
    RecordClass(
        "periodic-report",
        "Monthly, quarterly or half-yearly report",
        "月度、季度、半年度财务会计报告",
    ),
    RecordClass("annual-report", "Annual financial report", "年度财务会计报告"),
    RecordClass("bank-reconciliation", "Bank reconciliation", "银行存款余额调节表"),
    RecordClass("bank-statement", "Bank statement", "银行对账单"),
    RecordClass("tax-return", "Tax return", "纳税申报表"),
    RecordClass("transfer-register", "Register of archives handed over", "会计档案移交清册"),
    RecordClass("custody-register", "Register of archives kept", "会计档案保管清册"),
    RecordClass("destruction-register", "Register of archives destroyed", "会计档案销毁清册"),
    RecordClass("appraisal-opinion", "Appraisal opinion", "会计档案鉴定意见书"),
    RecordClass("identity-document", "Identity document", "身份证件"),
    RecordClass("business-licence", "Business licence", "营业执照"),
    RecordClass("correspondence", "Correspondence", "往来函件"),
    RecordClass("system-file", "System file, no document", "系统文件(非文件材料)"),
)

RECORD_CLASSES: Final[Mapping[str, RecordClass]] = MappingProxyType(
    {item.key: item for item in _ALL}
)
