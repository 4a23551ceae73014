"""A shipped rule version is immutable: decisions made long ago cite it by reference.

If this test fails because a rule was changed on purpose, give the rule a new version, end the old one
(RULES.md, section 7) and add the new digest. A digest below is never edited or removed.
"""

from __future__ import annotations

import hashlib

import msgspec

from retention_rules.parser import load_rulebook, shipped_packs

FROZEN = {
    "cn-system-files@1": "6b2b80e4949017434373212cb583063f803ea4302304a2c80e141e6c9da01044",
    "cn-order79-01-source-vouchers@1": "5c9bf6fc9fc4f3e2f1c534f9ac1e4dfdea4d3ef9e86903c491e8f4f722e2458e",
    "cn-order79-02-bookkeeping-vouchers@1": "e5026f4ca65dae07d477ee856a09a672fa3319d0e7c268cd376d1f6b7be37913",
    "cn-order79-03-general-ledger@1": "67f48d11714284e12490fc90c68cf456495a0a5ac64d2b47d14504cd7823a7da",
    "cn-order79-04-subsidiary-ledger@1": "7156c8bb90e4976821852d5dae64e92d2d326add3c2106ae0616698b42ae3a18",
    "cn-order79-05-journal@1": "080d16d9114c5e03c3b56252f7986e56a223fb097a293f9fefcd0385de12bff5",
    "cn-order79-06-fixed-asset-cards@1": "a0abc8d403eae64a55bc794626864f4d0a880e44ce6f64f5dfe7b64600f03eee",
    "cn-order79-07-auxiliary-ledgers@1": "0b1935a428f11dfbe7d9c16196806093808b86b773071e89ac93c7a2f3c9a517",
    "cn-order79-08-periodic-reports@1": "56fd4c05164009e70bced5ce1d4c23faa8db52be2a301b29c65cd7a39b268f5e",
    "cn-order79-09-annual-reports@1": "7e880b4f99f90861fc12cf533eab953eec8eef1adb43354d1547baafe07bdaa2",
    "cn-order79-10-bank-reconciliations@1": "408e292cac2e01fe1d5b7f97984eb5f7a931f379cd83b1f7fb12273c32e0694d",
    "cn-order79-11-bank-statements@1": "acf35ce02d36373cd5eb55add8f0535f63688c478a30d23991fe36a083725ff5",
    "cn-order79-12-tax-returns@1": "73b447c840afd4d0356b1e282cdb7c53dd4b3f08f14d8de784ddd1a6ff1f41d7",
    "cn-order79-13-transfer-registers@1": "0271f360d8c30e1613cf921cb6764fc679d5ae64c26c1cccef3f5c2f1801899a",
    "cn-order79-14-custody-registers@1": "1b8e3890f665f60a1ee16e3b7ca18fbbd1566a77a9cdeb3486eebbd88342253e",
    "cn-order79-15-destruction-registers@1": "02580d5308a0e5984b1522a9948f4aad6f0bea4e95075c520a90cd144a4b4ebc",
    "cn-order79-16-appraisal-opinions@1": "6729432cedd3858a7bba5042ae05cbd49d0ae5a038a668ad1bf4d437e4129762",
    "cn-tax-art29-books@1": "a04cd9777e9c6e0e833763fbf4b4081f1a6beeccf601db087c2aebc2f69b1af7",
    "cn-tax-art29-contracts@1": "7af937b8c13c43b59d1c0c0278b74cdb67d080437f39162a80ab44bc3399bda6",
    "cn-tax-art29-other@1": "87b02f85cecd08e9f307a4b2bff18a32703c32a56372bd98b15c0ea2da3c3d9c",
    "cn-invoice-stubs@1": "a473dff73c5becff0d493079072ac70c2a29e49a6e1373f0397652999879ec03",
    "cn-wage-records@1": "e86aa8ee747b0e5e24c3ecb28fb188b8267debe8a9e98e2a8ba300d377f8b7dc",
    "cn-labour-contracts@1": "fb6d2026f44a29003e2183d8724ba064ba0c52250c076cdbc3c59f1502edc113",
    "cn-aml-records@1": "a8e67bb9917a02d48ad9f68e66895d0fc750a9908887ab455cc2425fd6df6157",
    "demo-note@1": "3ae0f831bee079aa0862637c66744520c67e9a62774f4bb2622e711335111ef4",
    "demo-voucher@1": "18cf126ff6efae59101be57c69908159fbea9b87583dbcc022540a6684f626c3",
    "demo-statement@1": "57e23d03fc4f79a58597d36502c20e6677518db7767d1272495925bea5ecc879",
}


def test_no_shipped_rule_version_was_edited_added_unfrozen_or_removed() -> None:
    found = {
        rule.ref: hashlib.sha256(msgspec.json.encode(rule, order="deterministic")).hexdigest()
        for rule in load_rulebook(shipped_packs()).rules
    }
    assert found == FROZEN
