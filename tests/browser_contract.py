"""What every store must keep to about assumptions that a browser holds; part of `StoreContract`."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.stores.browsing import BROWSER_KEPT, EMPTY_JAR, BrowserAssumption, StoredJar
from gateway.stores.store import Store, StoreConflict
from policy.grants import Change
from policy.model import AccountType
from tests.store_examples import ACME, ACTOR, ASSUMPTION, AWKWARD, NOW, a_change, a_grant, begin

MOMENT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
HELD = BrowserAssumption(
    digest=bytes(range(32)), assumption=ASSUMPTION.id, claims=AWKWARD, expires_at=NOW + HOUR, seen_at=NOW
)
JAR = StoredJar(text=f'["{AWKWARD!r}"]', version=1)


class BrowserContract:
    async def test_what_a_browser_holds_comes_back_as_it_went_in(self, store: Store):
        """With an empty jar; another digest finds nothing, and cannot be written to."""
        assert (None, None) == (await store.find_browser(HELD.digest), await store.find_jar(HELD.digest))
        await store.add_browser(HELD, at=NOW)
        assert HELD == await store.find_browser(HELD.digest)
        assert StoredJar(text="[]", version=0) == await store.find_jar(HELD.digest)
        for other in (b"", HELD.digest[:-1], secrets.token_bytes(32)):
            assert (None, None) == (await store.find_browser(other), await store.find_jar(other))
            assert False is await store.save_jar(other, JAR)
            await store.touch_browser(other, at=NOW)

    async def test_a_browsers_digest_is_taken_once(self, store: Store):
        """The first stays."""
        await store.add_browser(HELD, at=NOW)
        with pytest.raises(StoreConflict):
            await store.add_browser(replace(HELD, claims="{}"), at=NOW)
        assert HELD == await store.find_browser(HELD.digest)

    @pytest.mark.parametrize("how", ["begin", "tidy"])
    async def test_what_is_over_is_known_for_a_week_and_then_forgotten(self, store: Store, how):
        """When the next begins, or when it is tidied: on the end of that week, not a moment before."""
        later = replace(HELD, digest=secrets.token_bytes(32), expires_at=NOW + 3 * HOUR)

        async def tidy(at):
            if how == "tidy":
                await store.tidy_browsers(at=at)
            else:
                await store.add_browser(replace(later, digest=secrets.token_bytes(32)), at=at)

        for held in (HELD, later):
            await store.add_browser(held, at=NOW)
        await tidy(HELD.expires_at + BROWSER_KEPT - MOMENT)
        assert HELD == await store.find_browser(HELD.digest)
        await tidy(HELD.expires_at + BROWSER_KEPT)
        assert (None, later) == (await store.find_browser(HELD.digest), await store.find_browser(later.digest))

    @pytest.mark.parametrize("how", ["begin", "tidy"])
    async def test_a_jar_whose_time_is_over_is_emptied(self, store: Store, how):
        """On its end, not a moment before; the same when its grant's time is over, however long its own would be."""
        await begin(store, ASSUMPTION)
        await store.add_account(ACME)
        grant = a_grant(ACME, expires_at=NOW + 2 * HOUR)
        await store.save_change(a_change(ACME, grant=grant), by="x", at=NOW)
        by_itself = replace(HELD, digest=secrets.token_bytes(32), assumption="another")
        by_grant = replace(HELD, expires_at=NOW + 9 * HOUR)
        for held in (by_itself, by_grant):
            await store.add_browser(held, at=NOW)
            assert await store.save_jar(held.digest, JAR)
        texts = []
        for at in (HOUR - MOMENT, HOUR, 2 * HOUR - MOMENT, 2 * HOUR):
            if how == "tidy":
                await store.tidy_browsers(at=NOW + at)
            else:
                await store.add_browser(replace(HELD, digest=secrets.token_bytes(32)), at=NOW + at)
            texts.append([(await store.find_jar(held.digest)).text for held in (by_itself, by_grant)])
        empty, full = EMPTY_JAR, JAR.text
        assert [[full, full], [empty, full], [empty, full], [empty, empty]] == texts

    async def test_when_it_was_used_only_moves_forwards(self, store: Store):
        """And changes no position: nobody's rights depend on it but its own."""
        await store.add_browser(HELD, at=NOW)
        position = (await store.read_changes(0)).position
        for at, seen in ((NOW + HOUR, NOW + HOUR), (NOW, NOW + HOUR), (NOW + 2 * HOUR, NOW + 2 * HOUR)):
            await store.touch_browser(HELD.digest, at=at)
            assert replace(HELD, seen_at=seen) == await store.find_browser(HELD.digest)
        assert position == (await store.read_changes(0)).position

    async def test_a_jar_is_saved_on_the_version_that_was_read_only(self, store: Store):
        """Of twenty who read the same one, one saves; nobody's cookies are lost unseen."""
        await store.add_browser(HELD, at=NOW)
        mine = [StoredJar(text=f"[{n}]", version=1) for n in range(20)]
        saved = await asyncio.gather(*(store.save_jar(HELD.digest, jar) for jar in mine))
        assert 1 == sum(saved)
        assert mine[saved.index(True)] == await store.find_jar(HELD.digest)
        assert False is await store.save_jar(HELD.digest, StoredJar(text="[]", version=3))
        assert True is await store.save_jar(HELD.digest, StoredJar(text="[9]", version=2))

    @pytest.mark.parametrize("end", ["one", "all", "sign-out"])
    async def test_a_jar_ends_with_its_assumption(self, store: Store, end):
        """By whichever call it ends: what the app left is gone, and nothing can be put there again."""
        other = replace(HELD, digest=secrets.token_bytes(32), assumption="another")
        await begin(store, ASSUMPTION)
        for held in (HELD, other):
            await store.add_browser(held, at=NOW)
            assert await store.save_jar(held.digest, JAR)
        if end == "one":
            await store.end_assumption(ASSUMPTION.id, at=NOW)
        elif end == "all":
            await store.end_assumptions_of(ACTOR, at=NOW)
        else:
            await store.sign_out(ACTOR, since=NOW + HOUR, at=NOW)
        left = await store.find_jar(HELD.digest)
        assert "[]" == left.text
        for version in (left.version + 1, JAR.version + 1):
            assert False is await store.save_jar(HELD.digest, StoredJar(text="[1]", version=version))
        assert (JAR, HELD) == (await store.find_jar(other.digest), await store.find_browser(HELD.digest))

    @pytest.mark.parametrize("end", ["revoked", "another", "suspended", "converted"])
    async def test_a_jar_ends_with_its_grant(self, store: Store, end):
        """By whatever the account chooses, or becomes; another account's stays, and so does one whose grant goes on."""
        other = replace(HELD, digest=secrets.token_bytes(32), assumption="another")
        grant = a_grant(ACME)
        await store.add_account(ACME)
        await begin(store, ASSUMPTION)
        await begin(store, replace(ASSUMPTION, id="another", account="other", grant_id="g9"))
        await store.save_change(a_change(ACME, grant=grant), by="x", at=NOW)
        for held in (HELD, other):
            await store.add_browser(held, at=NOW)
            assert await store.save_jar(held.digest, JAR)
        account = replace(ACME, epoch=ACME.epoch + 1)
        extended = replace(grant, expires_at=NOW + 99 * HOUR)
        await store.save_change(a_change(account, Change.EXTENDED, grant=extended), by="x", at=NOW)
        assert JAR == await store.find_jar(HELD.digest)
        account = replace(account, epoch=account.epoch + 1)
        revoked = replace(extended, revoked_at=NOW)
        change = {
            "revoked": lambda: a_change(account, Change.TURNED_OFF, grant=revoked),
            "another": lambda: a_change(account, grant=a_grant(account, id="g2")),
            "suspended": lambda: a_change(replace(account, suspended=True), grant=extended),
            "converted": lambda: a_change(replace(account, type=AccountType.TRIAL)),
        }[end]()
        await store.save_change(change, by="x", at=NOW)
        left = await store.find_jar(HELD.digest)
        assert (EMPTY_JAR, JAR) == (left.text, await store.find_jar(other.digest))
        assert False is await store.save_jar(HELD.digest, replace(JAR, version=JAR.version + 1))
        if end == "revoked":
            assert False is await store.save_jar(HELD.digest, replace(JAR, version=left.version + 1))
