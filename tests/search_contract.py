"""What every store keeps to when accounts are searched for."""

import pytest

from gateway.stores.store import AccountRecord, Store
from policy.model import Account, AccountId, AccountType
from tests.store_examples import NOW, a_change, a_grant

NAMES = ("acme", "acme-eu", "globex", "macmed", "zz-acme")


class SearchContract:
    async def test_accounts_are_found_by_any_part_of_their_id(self, store: Store):
        """By id, each with its newest grant; nothing is found of what no id has."""
        for name in NAMES:
            await store.add_account(Account(id=AccountId(name), type=AccountType.PAID))
        granted = Account(id=AccountId("acme"), type=AccountType.PAID)
        await store.save_change(a_change(granted, grant=a_grant(granted)), by="x", at=NOW)
        found = await store.search_accounts("acme", most=10)
        assert ["acme", "acme-eu", "macmed", "zz-acme"] == [record.account.id for record in found]
        assert await store.find_account(AccountId("acme")) == found[0]
        assert isinstance(found[0], AccountRecord)
        assert None is not found[0].grant
        assert [] == list(await store.search_accounts("initech", most=10))

    async def test_a_search_goes_on_behind_the_last_that_was_found(self, store: Store):
        """In pages of any size everything is found once."""
        for name in NAMES:
            await store.add_account(Account(id=AccountId(name), type=AccountType.TRIAL))
        for size in (1, 2, 3, 9):
            seen, after = [], ""
            while page := await store.search_accounts("", most=size, after=after):
                assert len(page) <= size
                seen += [record.account.id for record in page]
                after = seen[-1]
            assert list(NAMES) == seen

    @pytest.mark.parametrize("text", ["%", "_", "ac_e", "a%", "*", "a*", "ACME", "[a]", "' OR 1", "\\"])
    async def test_no_letter_of_a_search_has_a_meaning(self, store: Store, text: str):
        """What would stand for other letters elsewhere stands for itself, and case counts."""
        await store.add_account(Account(id=AccountId("acme"), type=AccountType.PAID))
        await store.add_account(Account(id=AccountId(f"odd {text}"), type=AccountType.PAID))
        found = await store.search_accounts(text, most=10)
        assert [f"odd {text}"] == [record.account.id for record in found]
