"""What the types cannot say of the rules over staff, accounts and agents."""

from gateway.config.model import ConfigError, StaffRuleTable, StaffSection
from policy.model import Permission
from policy.rules import SIGN_IN_METHODS, is_attribute


def check_rules(section: StaffSection) -> None:
    """Raise ConfigError for the first rule that could let in nobody, or somebody by mistake."""
    if not section.rules:
        raise ConfigError("staff.rules: without a rule nobody could ever stand in; add a [[staff.rules]] table")
    if section.agent_claim == "":
        raise ConfigError("staff.agent_claim: name a claim such as email, or leave it out")
    for index, rule in enumerate(section.rules):
        _check_rule(rule, f"staff.rules[{index}]")


def _check_rule(rule: StaffRuleTable, where: str) -> None:
    if not (rule.subject or rule.group or rule.groups or rule.claims or rule.amr):
        raise ConfigError(f"{where}: set `subject`, `group`, `groups`, `claims` or `amr`, to say of whom")
    if not rule.permissions:
        raise ConfigError(f"{where}.permissions: name some of {', '.join(Permission)}; whom no rule fits has none")
    if SIGN_IN_METHODS in rule.claims:
        raise ConfigError(f"{where}.claims: the methods of a sign-in are a list: name them in `amr`")
    if "" in (rule.subject, rule.group, *rule.groups, *rule.claims, *rule.amr, *rule.agent_roles):
        # Left empty it reads like "nobody" to one and like "whoever" to another.
        raise ConfigError(f"{where}: an empty text is no condition: leave it out")
    for name, value in rule.account_attributes.items():
        if not is_attribute(name, value):
            raise ConfigError(f"{where}.account_attributes: `{name}` must be a name such as region, with a value")
