"""Whether an agent exists, and in which roles: the app is asked, as that agent, before a token is issued for them.

Locum keeps no list of agents. So the first request of an assumption is one of our own: to the profile's
`agent_probe`, decided and recorded like any other, with an assertion for that agent; the app's answer decides, and
tells the roles where the profile's `agent_role` points to.
"""

from gateway.audit.log import AuditLog
from gateway.clock import Clock, Ticks
from gateway.proxy.course import Course
from gateway.proxy.forward import Sent
from gateway.proxy.identity import Assertions
from gateway.proxy.records import record_decision
from gateway.proxy.triage import AccountReader
from gateway.proxy.wire import RequestHead, Upstream, UpstreamFault, UpstreamResponse
from gateway.tokens.starting import Known
from policy.claims import LONGEST_BROWSER, check_token
from policy.decide import decide
from policy.documents import Odd
from policy.exchange import Issue
from policy.model import AccessRequest, Deny, DenyReason, Facts, Permit
from policy.routes import Profile
from policy.setting import read_roles
from policy.target import parse_target

_MOST_BYTES = 64 * 1024
_KNOWN = range(200, 300)
_UNKNOWN = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 410})


class AgentProbe:
    """Asks the app whether the agent of an assumption exists; without `agent_probe` in the profile it asks nothing."""

    def __init__(
        self,
        *,
        accounts: AccountReader,
        profile: Profile,
        upstream: Upstream,
        assertions: Assertions,
        journal: AuditLog,
        issuer: str,
        clock: Clock,
        ticks: Ticks,
    ) -> None:
        self._accounts = accounts
        self._profile = profile
        self._upstream = upstream
        self._assertions = assertions
        self._journal = journal
        self._issuer = issuer
        self._clock = clock
        self._ticks = ticks

    async def ask(self, issue: Issue, facts: Facts, *, request_id: str) -> Deny | Known:
        """Return why the assumption must not start, or what is known of the agent; raises JournalError.

        `facts` are those that the assumption will have once it has started, with `asking`.
        """
        if not self._profile.agent_probe:
            return Known()
        # Ours, whichever door they come from: no kind of assumption lives longer than a browser's.
        claims = check_token(issue.claims, issuer=self._issuer, longest=LONGEST_BROWSER)
        host = self._accounts.host_of(claims.account)
        target = parse_target(self._profile.agent_probe.encode("ascii"))
        request = AccessRequest(method="GET", target=target, account=claims.account, audience=host, claims=claims)
        decision = decide(request, facts, self._profile, now=self._clock())
        head = RequestHead(method=b"GET", target=target.raw, headers=self._accounts.lines_for(claims.account))
        record = record_decision(
            decision,
            head,
            facts,
            claims,
            account=claims.account,
            client_ip=lambda: None,
            request_id=request_id,
            where=self._upstream.where,
        )
        if isinstance(decision, Deny):
            await self._journal.append(record)
            return decision
        course = Course(
            self._journal,
            record,
            None,
            account=claims.account,
            assumption=claims.assumption,
            began=self._ticks(),
            ticks=self._ticks,
        )
        course.seq = await self._journal.append(record, instead=course.abandoned)
        with course:
            return await self._send(decision, head, host, course)

    async def _send(self, permit: Permit, head: RequestHead, host: str, course: Course) -> Deny | Known:
        pointer = self._profile.agent_role
        lines = (
            *head.headers,
            (b"Accept", b"application/json" if pointer else b"*/*"),
            (b"User-Agent", b"locum"),
            *self._assertions.lines(permit, head, host, self._clock),
        )
        try:
            response = await self._upstream.send(
                RequestHead(method=head.method, target=head.target, headers=lines), None
            )
            try:
                course.status = status = response.head.status
                course.sent = Sent.AT_ONCE
                if status not in _KNOWN:
                    return Deny(reason=DenyReason.AGENT_UNKNOWN if status in _UNKNOWN else DenyReason.APP_UNAVAILABLE)
                return Known(roles=await _read_roles(response, pointer)) if pointer else Known()
            finally:
                await response.close()
        except UpstreamFault:
            course.sent = Sent.UNANSWERED
            return Deny(reason=DenyReason.APP_UNAVAILABLE)
        except _OddError as exc:
            return Deny(reason=DenyReason.APP_UNAVAILABLE, detail=f"the app does not tell the agent's role: {exc}")


async def _read_roles(response: UpstreamResponse, pointer: str) -> frozenset[str]:
    body = bytearray(response.at_hand() or b"")
    if not body:
        async for part in response.body:
            body += part
            if len(body) > _MOST_BYTES:
                raise _OddError(f"its answer is longer than {_MOST_BYTES} bytes")
    found = read_roles(bytes(body), pointer)
    if isinstance(found, Odd):
        raise _OddError(found.reason)
    return found


class _OddError(Exception):
    """The app's fault: its answer does not tell what the profile says that it tells."""
