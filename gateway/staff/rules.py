"""The configured rules as policy wants them, with the one of our own that a self-test needs."""

from datetime import timedelta

from gateway.config.model import Config, StaffRuleTable
from gateway.selftest.door import WHO
from policy.model import Permission
from policy.rules import SIGN_IN_METHODS, StaffRule, StandInRules


def read_rules(config: Config) -> StandInRules:
    """Return who may stand in for whom under this configuration; a provider's people are those of `staff.issuer`."""
    staff = config.staff
    rules = [_read_rule(table, staff.issuer) for table in staff.rules]
    # Nobody else has our own name for an issuer: it signs no one in, and only a self-test begins an assumption so.
    own = StaffRule(permissions=frozenset({Permission.READ}), issuer=config.server.issuer, subject=WHO)
    return StandInRules(
        rules=(*rules, own),
        administrators=frozenset(config.grants.administrator_roles),
        agent_claim=None if staff.agent_claim is None else (staff.issuer, staff.agent_claim),
        provider=staff.issuer,
        acr=frozenset(staff.require_acr),
        amr=frozenset(staff.require_amr),
        max_age=None if staff.max_age_seconds is None else timedelta(seconds=staff.max_age_seconds),
    )


def _read_rule(table: StaffRuleTable, issuer: str) -> StaffRule:
    groups = frozenset(table.groups if table.group is None else (table.group, *table.groups))
    methods = {(SIGN_IN_METHODS, method) for method in table.amr}
    return StaffRule(
        permissions=frozenset(table.permissions),
        issuer=issuer,
        subject=table.subject,
        groups=groups,
        claims=frozenset(table.claims.items()) | methods,
        account_type=table.account_type,
        account_attributes=frozenset(table.account_attributes.items()),
        agent_roles=frozenset(table.agent_roles),
    )
