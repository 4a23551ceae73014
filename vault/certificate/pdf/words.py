"""The words of a printed certificate: what its codes mean to a person, in English and Chinese.

Promises: sentences that say no more than the certificate does. Every fact in them is its body's;
what has no words here is shown as it stands, and nothing is left out for want of a translation.

Leaves out: where the words stand on the page (`pdf.document`).

Rules:
1. No sentence goes beyond the level claimed, or says that anything cannot come back.
2. A day in a sentence is the day in the zone the print uses (`zone_of`), which the print names.
3. The period kept (已保管期限) runs from the day after the trigger to the day of destruction, in whole
   years and months, rounded down (Order 79, art. 14: the period begins the day after the year has ended).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import Final

from msgspec import UNSET, UnsetType

from vault.certificate.enrolment import CONSOLE, FOUNDING, Enrolment
from vault.certificate.model import KEY_ABSENT, Body, RegisterEntry, Text

_PAIRS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        # results and states
        "passed": ("passed", "通过"),
        "failed": ("failed", "未通过"),
        "not_checked": ("not checked", "未查验"),
        "destroyed": ("destroyed", "已销毁"),
        "withdrawn": ("withdrawn", "已撤出"),
        "expired": ("expired", "已失效"),
        "live": ("live", "尚存"),
        "keyless": ("keyless", "无密钥"),
        "unknown": ("unknown", "不明"),
        "approve": ("approved", "同意"),
        "reject": ("rejected", "否决"),
        # roles
        "client": ("client", "委托人"),
        "accountant": ("accountant", "会计人员"),
        "officer": ("officer", "主管"),
        "archivist": ("archivist", "档案人员"),
        "auditor": ("auditor", "审计人员"),
        "admin": ("administrator", "管理员"),
        "witness": ("witness", "监销人"),
        # what a period is counted from
        "fiscal_year_end": ("end of the fiscal year", "会计年度终了"),
        "calendar_year_end": ("end of the calendar year", "公历年度终了"),
        "filing": ("filing", "申报"),
        "deadline": ("filing deadline", "申报期限届满"),
        "received": ("receipt", "收到"),
        "quarantined": ("quarantine", "隔离"),
        "event:asset_scrapped": ("scrapping of the asset", "固定资产报废清理"),
        "event:employment_ended": ("end of the employment", "劳动关系终止"),
        "event:relationship_ended": ("end of the relationship", "业务关系终止"),
        # kinds of copies
        "keyring": ("copy of the keyring", "密钥环副本"),
        "backup": ("backup", "备份"),
        # checks
        KEY_ABSENT: (
            "Keys looked for in the keyring and the catalogue",
            "在密钥环与目录中查找密钥",
        ),
        "ciphertext-absent": ("Encrypted files looked for in the store", "在存储中查找密文文件"),
        "decryption-fails": ("Opening the documents was tried", "试行打开文件"),
        "write-ahead-log-emptied": ("Journal of the database emptied", "清空数据库日志"),
        "key-bytes-absent-from-files": (
            "Key bytes looked for in the store's files",
            "在存储文件中逐字节查找密钥",
        ),
        "epoch-key-erased-from-token": ("Key erased from the token", "清除硬件令牌中的密钥"),
        "backup-sample-unreadable": ("A sample from a backup was tried", "抽样试读备份"),
    }
)
_UNITS: Final = {
    "Y": ("year", "年"),
    "M": ("month", "个月"),
    "W": ("week", "周"),
    "D": ("day", "天"),
}
_SHORT: Final = {"Y": "yr", "M": "mo", "D": "d"}
_PERIOD: Final = re.compile(r"P(?:[0-9]+[YMWD])+")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_ORDER_79: Final = re.compile(r"cn-order79-|.*第79号")


def word(code: str) -> Text:
    """The meaning of a code in words; a code without words stands for itself."""
    en, zh = _PAIRS.get(code, (code, code))
    return Text(en=en, zh=zh)


def known(code: str) -> bool:
    """Whether a code has words."""
    return code in _PAIRS


def day(value: date) -> Text:
    """A day, written out."""
    return Text(
        en=f"{value.day} {_MONTHS[value.month - 1]} {value.year}",
        zh=f"{value.year}年{value.month}月{value.day}日",
    )


def period(code: str) -> Text:
    """A period such as `P30Y` in words; another form stands for itself."""
    if not _PERIOD.fullmatch(code):
        return Text(en=code, zh=code)
    return _amounts([(int(number), unit) for number, unit in re.findall(r"([0-9]+)([YMWD])", code)])


def kept(entry: RegisterEntry, destroyed: date) -> Text:
    """How long a document was kept (rule 3)."""
    begin = entry.trigger_on + timedelta(days=1)
    months = (destroyed.year - begin.year) * 12 + destroyed.month - begin.month
    months -= destroyed.day < begin.day
    if months < 1:
        amounts = [(max(0, (destroyed - begin).days), "D")]
    else:
        amounts = [(months // 12, "Y"), (months % 12, "M")]
    told = [(amount, unit) for amount, unit in amounts if amount or unit == "D"]
    # Short in English: it stands in a narrow column.
    return Text(
        en=" ".join(f"{amount} {_SHORT[unit]}" for amount, unit in told), zh=_amounts(told).zh
    )


def _amounts(amounts: list[tuple[int, str]]) -> Text:
    return Text(
        en=" ".join(f"{n} {_UNITS[unit][0]}{'' if n == 1 else 's'}" for n, unit in amounts),
        zh="".join(f"{n}{_UNITS[unit][1]}" for n, unit in amounts),
    )


def enrolled(account: str, enrolment: Enrolment | UnsetType, zone: tzinfo) -> Text:
    """When and by whom the key that signed was given to `account`, in a few words."""
    if enrolment is UNSET:
        return Text(en="how it was enrolled is not stated", zh="登记情况未载明")
    on = enrolment.added_at.astimezone(zone).date().isoformat()
    by = enrolment.enrolled_by
    if by == FOUNDING:
        return Text(en=f"enrolled {on}, in the founding days", zh=f"{on} 系统初建时登记")
    if by == CONSOLE:
        return Text(en=f"enrolled {on} by the console", zh=f"{on} 由控制台登记")
    names = [each.account for each in by if not isinstance(each, str)]
    if enrolment.together_with is not UNSET:
        return Text(
            en=f"enrolled {on} by {_and([*names, 'the holder of the root key'])}",
            zh=f"{on} 由 {' 与 '.join([*names, '根密钥持有人'])} 登记",
        )
    if names == [account]:
        return Text(en=f"enrolled {on} by its owner", zh=f"{on} 由本人登记")
    if len(names) == 1:
        return Text(
            en=f"enrolled {on}, answered for by {names[0]}", zh=f"{on} 登记，由 {names[0]} 负责"
        )
    return Text(en=f"enrolled {on} by {_and(names)}", zh=f"{on} 由 {' 与 '.join(names)} 登记")


def under_order_79(body: Body) -> bool:
    """Whether any item is kept under China's Order 79, whose register has columns of its own."""
    return any(_ORDER_79.match(f"{item.rule} {item.legal_basis}") for item in body.register)


def zone_of(body: Body) -> timezone:
    """The zone a print shows times in: the one the first item's period ended in, as a fixed offset."""
    zone: tzinfo = UTC
    if body.register:
        zone = body.register[0].retained_until.tzinfo or UTC
    return timezone(body.issued_at.astimezone(zone).utcoffset() or timedelta())


def zone_name(zone: timezone) -> str:
    """A zone as people write it: `UTC+08:00`."""
    return zone.tzname(None)


def summary(body: Body) -> Text:
    """Who destroyed what, when, on whose approval: one paragraph."""
    zone = zone_of(body)
    gone = [item for item in body.outcomes if item.result == "destroyed"]
    first, last = _span([item.destroyed_at for item in gone if item.destroyed_at], zone)
    destroyed = {item.document_id for item in gone}
    items = [item for item in body.register if item.document_id in destroyed]
    years = _years(items)
    approvers = [(item.account, word(item.role)) for item in body.approvals]
    due = day(
        max((item.retained_until for item in items), default=body.executed_at).astimezone(zone)
    )
    when_en = f"On {first.en}" if first == last else f"From {first.en} to {last.en}"
    when_zh = first.zh if first == last else f"{first.zh}至{last.zh}"
    count = len(gone)
    en = (
        f"{when_en}, {count} document{'' if count == 1 else 's'} of the client {body.client}"
        f"{years.en and ','}{years.en} {'was' if count == 1 else 'were'} destroyed in the document gateway "
        f"{body.gateway.origin}. Before that, "
        + _and([f"{name} ({role.en})" for name, role in approvers])
        + " each approved it with a signature of their own; "
        f"{body.executor.account} ({word(body.executor.role).en}) carried it out. "
        f"The retention periods had ended by {due.en} at the latest."
    )
    zh = (
        f"{when_zh}，委托人 {body.client} 的 {count} 份文件{years.zh}已在文件保管系统 "
        f"{body.gateway.origin} 中销毁。销毁前，"
        + "、".join(f"{name}（{role.zh}）" for name, role in approvers)
        + f"均以本人密钥签名批准；由 {body.executor.account}（{word(body.executor.role).zh}）执行。"
        f"上述文件应保管的期限至迟已于{due.zh}届满。"
    )
    if not gone:
        en = f"No document of the client {body.client} was destroyed under this batch."
        zh = f"本批次未销毁委托人 {body.client} 的任何文件。"
    left = len(body.outcomes) - count
    if left:
        en += f" {left} more had been approved and {'was' if left == 1 else 'were'} not destroyed."
        zh += f"另有 {left} 份已批准但未销毁，见清册。"
    if body.scope == "client":
        en += " With them ended everything that the gateway held for this client."
        zh += "至此，本系统为该委托人保管的全部文件均已终止保管。"
    if body.unreviewed_recovery is not UNSET:
        since = day(body.unreviewed_recovery.since.astimezone(zone))
        en += (
            f" Since {since.en} a quorum of officers was restored by recovery, by the holder of the root key "
            "and one officer; two officers had not reviewed it when this was issued."
        )
        zh += (
            f"自{since.zh}起，主管的法定人数系经恢复程序（由根密钥持有人与一名主管）重新建立；"
            "签发本证明书时，尚未经两名主管复核。"
        )
    if body.follows is not None:
        en += (
            f" This certificate follows {body.follows} and adds what was established since; "
            "what was done is unchanged."
        )
        zh += f"本证明书承接证明书 {body.follows}，补充其后查明的事项；所载销毁事实不变。"
    return Text(en=en, zh=zh)


def headline(body: Body) -> Text:
    """The claim in one line, as far as the copies listed carry it."""
    live = [item for item in body.copies if item.state == "live"]
    if body.claim.level == "L0":
        return Text(
            en="Deleted. Whether anything remains was not established.",
            zh="已删除；是否尚有残留，未经查证。",
        )
    if body.claim.level == "L3":
        return Text(
            en="Destroyed and checked; no known copy of a key is left; media stated to be sanitised.",
            zh="已销毁并经查验；已知密钥副本均不复存在；另有介质清除声明。",
        )
    if body.claim.level == "L2":
        return Text(
            en="Destroyed and checked; no known copy of a key is left.",
            zh="已销毁并经查验；已知密钥副本均不复存在。",
        )
    if not live:
        return Text(
            en="Destroyed and checked in the gateway; the copies were not all checked.",
            zh="已在本系统中销毁并经查验；各处副本尚未全部查验。",
        )
    dates = [item.expires for item in live if item.expires is not None]
    places = f"{len(live)} {'place' if len(live) == 1 else 'places'}"
    if len(dates) == len(live):
        until = day(max(dates))
        return Text(
            en=f"Destroyed and checked in the gateway; a copy of a key remains in {places} "
            f"until {until.en}.",
            zh=f"已在本系统中销毁并经查验；另有 {len(live)} 处密钥副本留存至{until.zh}。",
        )
    return Text(
        en=f"Destroyed and checked in the gateway; a copy of a key remains in {places}, "
        "not all of which could be reached yet.",
        zh=f"已在本系统中销毁并经查验；另有 {len(live)} 处留存密钥副本，其中有尚未联系到者。",
    )


MEANING: Final = Text(
    en="What this means: each document was stored encrypted under a key of its own. Once no copy of that "
    "key is left, no copy of the encrypted document can be read, wherever it lies. The sections below "
    "show what was looked for, what was found, and what this certificate does not say.",
    zh="释义：每份文件均以其专用密钥加密保存；该密钥的副本一旦全部不复存在，散存各处的密文即无法读取。"
    "以下各节载明查找了什么、结果如何，以及本证明书不作声明的事项。",
)


def _span(moments: list[datetime], zone: timezone) -> tuple[Text, Text]:
    if not moments:
        return Text(en="", zh=""), Text(en="", zh="")
    return day(min(moments).astimezone(zone)), day(max(moments).astimezone(zone))


def _years(items: list[RegisterEntry]) -> Text:
    years = sorted({item.fiscal_year for item in items if item.fiscal_year is not None})
    if not years or any(item.fiscal_year is None for item in items):
        return Text(en="", zh="")
    if years[0] == years[-1]:
        return Text(en=f" from the fiscal year {years[0]},", zh=f"（{years[0]} 年度）")
    return Text(
        en=f" from the fiscal years {years[0]} to {years[-1]},",
        zh=f"（{years[0]} 至 {years[-1]} 年度）",
    )


def _and(parts: list[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else "nobody"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
