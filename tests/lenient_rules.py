"""Rules for tests that are not about rules: whoever is staff may do what they might do when they last signed in."""

from policy.model import DenyReason


class AsLastSeen:
    def demand(self, assumption):
        return None

    def judge(self, staff, account, grant, agent, *, asking=False):
        return staff.permissions or DenyReason.STAFF_NOT_ALLOWED

    def looked_at(self, staff, account, agent, *, asking=False):
        return frozenset()


AS_LAST_SEEN = AsLastSeen()
