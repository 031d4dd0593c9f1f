"""Each MUST of the standards that tokens, the sign-in and sign-outs follow stands here with the test that holds it."""

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# (standard and section, what it demands, the test that fails without it)
# Above each standard stands which of its sections are gone through; the others bind clients or apps, or are about what is
# not served here. Of the sections that are, a MUST without a row is a gap.
MUSTS = [
    # RFC 6749: sections 2.3, 3.2, 5. Not served: the authorization endpoint (3.1, 4.1, 4.2), passwords, refresh tokens (6).
    # TLS (also RFC 7009 2, 7662 4, 8414 2) is there where `server.tls` is set, or a proxy in front has it.
    ("RFC 6749 3.2", "TLS at the token endpoint", "test_public_tls::test_the_control_plane_and_staff_come_over_tls_too"),
    ("RFC 6749 3.2", "POST alone", "test_token_endpoint_refusals::test_only_post_is_served"),
    ("RFC 6749 3.2", "parameters without a value count as left out, unknown ones are ignored", "test_token_endpoint_refusals::test_what_is_unknown_or_empty_is_passed_over"),
    ("RFC 6749 2.3", "no more than one way to authenticate in a request", "test_oauth_clients::test_a_client_authenticates_in_one_way"),
    ("RFC 6749 2.3.1", "id and secret are form-encoded before they are joined", "test_token_endpoint_refusals::test_a_client_s_name_and_secret_are_form_encoded"),
    ("RFC 6749 3.2", "no parameter twice", "test_token_endpoint_refusals::test_a_parameter_sent_twice_is_refused"),
    ("RFC 6749 5.1", "no-store on whatever holds a token", "test_token_endpoint::test_the_answer_is_that_of_rfc_8693"),
    ("RFC 6749 5.2", "401 names the scheme", "test_token_endpoint_refusals::test_a_caller_who_is_not_a_known_client_gets_401"),
    # RFC 6750: sections 2 and 3; a token comes in the header only (2.1)
    ("RFC 6750 2.3", "no token in a URL", "test_assumption_tokens_at_the_door::test_a_token_in_the_query_or_a_cookie_is_no_credential"),
    ("RFC 6750 2", "one way to send a token in a request", "test_assumption_tokens_at_the_door::test_a_token_is_read_in_one_way_or_refused"),
    ("RFC 6750 3.1", "a challenge without a credential has no error", "test_deny_reasons::test_the_proxy_refuses_for_each_reason"),
    # RFC 7009: section 2; tokens of one kind are issued, so there are no others to end (2.1)
    ("RFC 7009 2.1", "the client authenticates, and the token was issued to it", "test_revocation_endpoint::test_another_client_takes_nothing_back"),
    ("RFC 7009 2.1", "the token counts nowhere any more at once", "test_revocation_endpoint::test_a_revoked_token_counts_nowhere_at_once"),
    ("RFC 7009 2.2", "200 for what is no token", "test_revocation_endpoint::test_what_is_no_token_is_revoked_already"),
    ("RFC 7009 2.2.1", "503: the client must assume that it still counts", "test_revocation_endpoint::test_a_store_that_cannot_end_it_says_so"),
    # RFC 8628: sections 3 to 5, the device's side as `locum assume` has it
    ("RFC 8628 3.1", "a public client names itself, a client with a secret proves it", "test_device_grant::test_a_client_with_a_secret_is_not_public_whatever_its_role"),
    ("RFC 8628 3.2", "codes, addresses, their end and the interval; no-store", "test_device_grant::test_what_is_approved_is_fetched_once"),
    ("RFC 8628 3.3", "the person is told what they approve and compares the code", "test_device_grant::test_what_is_approved_is_fetched_once"),
    ("RFC 8628 3.3.1", "the code is shown also where the address holds it", "test_assume_command::test_the_whole_way"),
    ("RFC 8628 3.4", "a code is for the client that got it", "test_device_grant::test_another_client_gets_nothing"),
    ("RFC 8628 3.5", "slow_down adds five seconds to this and all later waits", "test_devices::test_asking_too_soon_makes_the_wait_longer"),
    ("RFC 8628 3.5", "declined and expired are told apart", "test_devices::test_what_a_device_is_told"),
    ("RFC 8628 3.5", "a device that is not answered asks less often", "test_assume_command::test_it_waits_through_faults_and_stops_at_an_answer"),
    ("RFC 8628 4", "the metadata names the endpoint", "test_oauth_metadata::test_where_devices_ask_is_told_where_staff_can_sign_in"),
    ("RFC 8628 5.1", "user codes cannot be guessed", "test_device_grant::test_wrong_codes_are_counted"),
    ("RFC 8628 5.4", "bait is not shown as a question to approve", "test_device_grant::test_a_link_of_another_site_shows_nothing_and_uses_up_no_tries"),
    # RFC 7515: sections 4.1, 5.2, 7.1. RFC 7519: 4. RFC 8725: 3; nothing is encrypted (3.2 to 3.6)
    ("RFC 7515 4.1.11", "what is critical and not understood is refused", "test_assumption_tokens::test_no_other_header_is_obeyed"),
    ("RFC 7515 4", "a header's name is there once", "test_assumption_tokens::test_no_other_header_is_obeyed"),
    ("RFC 7515 5.2", "one step that fails, and it is not valid: whichever bit is another", "test_assumption_tokens::test_every_bit_of_a_token_counts"),
    ("RFC 7515 7.1", "no padding, no white space, three parts", "test_assumption_tokens::test_a_token_has_one_spelling"),
    ("RFC 7519 4", "claims are there once", "test_assumption_tokens::test_our_own_signature_does_not_make_a_wrong_payload_right"),
    ("RFC 7519 4.1.4", "not on or after its end", "test_assumption_tokens_at_the_door::test_a_token_counts_from_its_issue_to_just_before_its_end"),
    ("RFC 8032 5.1.7", "a signature has one value", "test_assumption_tokens::test_a_signature_has_one_value"),
    ("RFC 8725 3.1", "one algorithm per key", "test_assumption_tokens::test_no_other_header_is_obeyed"),
    ("RFC 8725 3.10", "no key, no address of a key out of the token itself", "test_assumption_tokens_at_the_door::test_the_door_refuses_what_the_verifier_refuses"),
    ("RFC 8725 3.11", "the type is checked", "test_assumption_tokens::test_no_other_header_is_obeyed"),
    # RFC 7523: section 3, of a client's authentication (2.2); assertions are no grant here (2.1)
    ("RFC 7523 3 (1-2)", "iss and sub are the client", "test_oauth_clients::test_an_assertion_that_is_not_about_this_client_here_and_now_proves_nobody"),
    ("RFC 7523 3 (3)", "aud is us", "test_oauth_clients::test_it_is_for_the_issuer_or_the_token_endpoint"),
    ("RFC 7523 3 (4-6)", "exp, nbf and iat are judged", "test_oauth_clients::test_it_lives_for_minutes_at_the_most"),
    ("RFC 7523 3 (7)", "an identifier counts once", "test_oauth_clients::test_an_assertion_counts_once"),
    ("RFC 7523 3 (9)", "it is signed by the client's key", "test_oauth_clients::test_nobody_else_s_signature_counts"),
    # RFC 7662: sections 2 and 4
    ("RFC 7662 2.1", "whoever asks has authenticated", "test_introspection::test_only_a_client_with_its_own_role_may_ask"),
    ("RFC 7662 2.2", "`active` is there, and nothing else of a dead token", "test_introspection::test_a_dead_token_is_inactive_and_not_a_word_more"),
    ("RFC 7662 4", "every check of a live token is made: time, end, signature", "test_introspection::test_what_is_no_token_of_ours_is_inactive_and_nothing_more"),
    # RFC 8414: sections 2 and 3. RFC 9728: 3 and 5; nothing is signed (signed_metadata)
    ("RFC 8414 2", "issuer, endpoints and their methods", "test_oauth_metadata::test_the_server_says_where_everything_is"),
    ("RFC 8414 3.1", "the known path stands before the issuer's own", "test_oauth_metadata::test_an_issuer_with_a_path_has_its_document_behind_the_known_one"),
    ("RFC 8414 3.3", "issuer is the very one that was asked", "test_oauth_journey::test_from_a_401_to_the_end"),
    ("RFC 9728 3.3", "resource is the host that was asked", "test_oauth_metadata::test_each_account_s_host_is_a_resource"),
    ("RFC 9728 3", "the known place is the app's here, said in docs/integrate.md; ours is below /.locum/", "test_oauth_metadata::test_what_is_known_of_other_hosts_stays_the_app_s"),
    ("RFC 9728 3.2", "resource and the server that issues its tokens", "test_oauth_metadata::test_each_account_s_host_is_a_resource"),
    ("RFC 9728 5.1", "a 401 may name the metadata, by nobody's word but ours", "test_oauth_metadata::test_no_forwarded_host_moves_an_address"),
    # RFC 8693: sections 2 and 4; the subject is an agent's id, so there is no token of theirs to judge
    ("RFC 8693 2.1", "no actor_token_type without an actor_token, and the other way round", "test_token_endpoint_refusals::test_a_refusal_has_its_name_and_issues_nothing"),
    ("RFC 8693 2.2.1", "issued_token_type, token_type, and the scope where it differs", "test_token_endpoint::test_the_answer_is_that_of_rfc_8693"),
    ("RFC 8693 2.2.2", "whatever is not acceptable is invalid_request, a target invalid_target", "test_deny_reasons::test_the_token_endpoint_refuses_for_each_reason"),
    ("RFC 8693 4.1", "one current actor; a chain is never issued nor accepted", "test_token_endpoint_refusals::test_who_acts_already_cannot_stand_in"),
    ("RFC 8693 4.4", "whoever says that others may act for them is not acting themself; of agents there is no token to say it in", "test_token_endpoint_refusals::test_who_acts_already_cannot_stand_in"),
    # RFC 9068: sections 2 and 4
    ("RFC 9068 2.1", "typ is at+jwt", "test_assumption_tokens::test_no_other_header_is_obeyed"),
    ("RFC 9068 2.1", "it is signed, and RS256 is among the algorithms", "test_key_algorithms::test_somebody_elses_library_verifies_what_is_signed_from_the_published_keys"),
    ("RFC 9068 2.2", "every required claim", "test_token_endpoint::test_the_token_says_what_rfc_9068_asks_for"),
    ("RFC 9068 4", "a resource looks at typ, signature, iss, aud and exp", "test_assumption_tokens_at_the_door::test_the_door_refuses_what_the_verifier_refuses"),
    ("RFC 9068 4", "a resource takes tokens for itself only", "test_assumption_tokens_at_the_door::test_a_token_of_one_account_opens_no_other"),
    # RFC 9396: sections 5 to 7 and 9; there is no authorization request (2 to 4)
    ("RFC 9396 5", "an unknown type, field or value is refused", "test_token_endpoint_refusals::test_a_refusal_has_its_name_and_issues_nothing"),
    ("RFC 9396 6", "what is asked for is held against what the grant allows", "test_deny_reasons::test_the_token_endpoint_refuses_for_each_reason"),
    ("RFC 9396 7", "what was granted is told", "test_token_endpoint::test_the_answer_is_that_of_rfc_8693"),
    ("RFC 9396 9.2", "introspection tells it as well", "test_introspection::test_a_live_token_is_told_as_it_says_itself"),
    # RFC 9449: sections 4.3, 5, 7 to 9, 11; there is no authorization code to bind (10)
    ("RFC 9449 4.3 (1)", "not more than one header with a proof", "test_dpop::test_a_proof_s_header_is_judged_as_strictly"),
    ("RFC 9449 4.3 (2)", "it is one well-formed JWT", "test_dpop::test_a_proof_s_header_is_judged_as_strictly"),
    ("RFC 9449 4.3 (3)", "every required claim is there", "test_dpop::test_a_proof_for_something_else_is_no_proof"),
    ("RFC 9449 4.3 (4)", "typ is dpop+jwt", "test_dpop::test_a_proof_s_header_is_judged_as_strictly"),
    ("RFC 9449 4.3 (5)", "the algorithm is asymmetric and one of ours, never none", "test_dpop::test_a_proof_s_header_is_judged_as_strictly"),
    ("RFC 9449 4.3 (6)", "the signature is that of the key in it", "test_dpop::test_every_bit_of_a_proof_counts"),
    ("RFC 9449 4.3 (7)", "that key is no private one", "test_dpop::test_a_proof_s_header_is_judged_as_strictly"),
    ("RFC 9449 4.3 (8)", "htm is the method", "test_dpop::test_a_proof_for_something_else_is_no_proof"),
    ("RFC 9449 4.3 (9)", "htu is the address, without query and fragment", "test_dpop::test_the_address_is_that_which_the_client_sees"),
    ("RFC 9449 4.3 (10)", "the nonce is one that we gave", "test_dpop::test_without_our_nonce_it_is_asked_for"),
    ("RFC 9449 4.3 (11)", "it was made within the last minute", "test_dpop::test_a_proof_is_of_the_last_minute"),
    ("RFC 9449 4.3 (12)", "with a token: ath is its hash, and the key is the one that it is bound to", "test_dpop::test_a_proof_is_for_this_method_address_and_token"),
    ("RFC 9449 5", "the token is bound to the proof's key, and its token_type is DPoP", "test_dpop::test_a_token_is_bound_to_the_proof_s_key"),
    ("RFC 9449 5.2", "a client that may have bound tokens only gets no other", "test_dpop::test_a_client_that_must_be_bound_gets_nothing_without_a_proof"),
    ("RFC 9449 7.1", "ath, and the key that the token is bound to", "test_dpop::test_a_proof_is_for_this_method_address_and_token"),
    ("RFC 9449 7.2", "a bound token is no bearer token", "test_dpop::test_a_bound_token_is_worth_nothing_to_whoever_bears_it"),
    ("RFC 9449 8", "a nonce that is not ours is asked for anew", "test_dpop::test_without_our_nonce_it_is_asked_for"),
    ("RFC 9449 9", "at the door, too, a nonce that is not ours is asked for anew", "test_dpop::test_the_door_asks_for_its_nonce_too"),
    ("RFC 9449 11.1", "a proof counts once", "test_dpop::test_a_proof_counts_once"),
    ("RFC 9449 11.1", "also of many at once, in one process", "test_dpop::test_of_two_hundred_copies_of_a_proof_at_once_one_reaches_the_app"),
    # RFC 9470: sections 3 and 6
    ("RFC 9470 3", "what the sign-in lacks is said", "test_step_up::test_a_sign_in_that_has_grown_too_old_ends_the_assumption"),
    ("RFC 9470 6", "acr and auth_time are told", "test_step_up::test_a_token_says_how_staff_signed_in"),
    # The sign-in with a browser. OpenID Connect Discovery 1.0: sections 3 and 4. Core 1.0: 3.1 and 5.3, the code flow.
    # RFC 7636: 4. RFC 9207: 2.4. RFC 9700: 2.1, as a client.
    ("Discovery 3", "an issuer is asked over TLS", "test_issuer::test_an_issuer_in_the_clear_is_never_asked"),
    ("Discovery 4.3", "the document is of the very issuer that was asked", "test_issuer::test_a_foreign_discovery_document_is_not_believed"),
    ("Core 3.1.2.1", "scope openid, response_type code, our redirect_uri; nonce, max_age and acr_values as configured", "test_id_tokens::test_the_question_has_what_the_standards_ask_for_and_no_secret"),
    ("Core 3.1.2.1", "with max_age there has to be an auth_time", "test_id_tokens::test_a_sign_in_without_its_time_is_refused_where_its_age_counts"),
    ("Core 3.1.2.6", "an error of the provider signs nobody in", "test_sign_in::test_an_error_of_the_provider_says_what_to_do"),
    ("Core 3.1.3.3", "an answer without an ID token is none", "test_id_tokens::test_an_answer_without_an_id_token_is_refused"),
    ("Core 3.1.3.7 (2-5, 9-11)", "iss, aud, azp, exp, iat and nonce of this sign-in", "test_id_tokens::test_an_id_token_that_does_not_fit_is_refused"),
    ("Core 3.1.3.7 (6-8)", "the provider's key and its algorithm", "test_id_tokens::test_a_token_of_another_kind_or_key_is_refused"),
    ("Core 3.1.3.7 (12-13)", "acr and auth_time are what was asked for", "test_staff::test_staff_have_signed_in_well_enough"),
    ("Core 3.1.3.8", "at_hash, where it is there, is the access token's", "test_id_tokens::test_an_id_token_that_does_not_fit_is_refused"),
    ("Core 5.3.2", "userinfo is about the ID token's sub", "test_userinfo::test_what_is_said_of_somebody_else_refuses_the_sign_in"),
    ("RFC 7636 4.1-4.3", "a verifier of 256 bits for each sign-in, sent as S256", "test_id_tokens::test_what_goes_to_the_provider_tells_nothing_of_the_cookie"),
    ("RFC 7636 4.5-4.6", "a code of another sign-in is worth nothing", "test_sign_in::test_a_code_of_another_sign_in_is_worth_nothing"),
    ("RFC 9207 2.4", "iss of the answer is compared, and missed where the provider says it sends it", "test_sign_in::test_an_answer_of_another_provider_is_refused"),
    ("RFC 9700 2.1", "no open redirect", "test_sign_in::test_no_sign_in_leads_anywhere_else"),
    ("RFC 9700 2.1", "an answer counts in the browser that asked only", "test_sign_in::test_an_answer_for_another_browser_signs_nobody_in"),
    ("RFC 9700 2.1", "mix-up: an answer of another server is refused", "test_sign_in::test_an_answer_of_another_provider_is_refused"),
    ("RFC 9700 2.1.1", "PKCE, and a nonce where the provider does not look at it", "test_sign_in::test_a_provider_without_pkce_gives_the_attacker_nothing_either"),
    ("RFC 9700 2.1", "state counts once", "test_sign_in::test_an_answer_counts_once"),
    # OpenID Connect Back-Channel Logout 1.0: sections 2.4 to 2.8; 2.2 and 2.3 bind the provider
    ("Back-Channel Logout 2.4", "every claim of a logout token, and no nonce", "test_notice_claims::test_what_a_logout_token_must_say"),
    ("Back-Channel Logout 2.5", "POST, as a form, and cached nowhere", "test_sign_out_doors::test_what_is_not_sent_as_the_standard_says_is_refused"),
    ("Back-Channel Logout 2.6 (4, 6)", "iss, aud, iat and events", "test_notice_claims::test_what_both_kinds_must_say"),
    ("Back-Channel Logout 2.6 (2-3)", "the provider's key, as for ID tokens; never none", "test_notice_tokens::test_only_the_issuers_key_in_its_own_algorithm_counts"),
    ("Back-Channel Logout 2.6 (8)", "a jti that was there before", "test_sign_outs::test_a_logout_token_is_used_once"),
    ("Back-Channel Logout 2.7", "every session of the person ends", "test_staff_sessions::test_a_sign_out_at_the_provider_ends_it"),
    ("Back-Channel Logout 2.8", "200 when it is done, 400 with error, not to be stored", "test_sign_out_doors::test_errors_are_told_in_the_words_of_each_standard"),
    # Security events. RFC 8417: sections 2 and 4. RFC 8935: 2. Shared Signals Framework 1.0 (SSF): 4.1 and 8.1, a receiver
    # that is pushed to; streams are set up at the transmitter. CAEP 1.0: 3.1 to 3.4.
    ("RFC 8417 2.2", "iss, iat, jti and events", "test_notice_claims::test_what_both_kinds_must_say"),
    ("RFC 8417 2.3", "the type keeps other tokens apart", "test_notice_claims::test_the_type_keeps_other_tokens_apart"),
    ("RFC 8417 4.1", "no token of another kind counts as an event, nor an event as one", "test_sign_outs::test_no_kind_of_token_counts_as_another"),
    ("RFC 8935 2.1", "one token as the body, by POST, with its media type", "test_sign_out_doors::test_what_is_not_sent_as_the_standard_says_is_refused"),
    ("RFC 8935 2", "202 once it is stored, also for one that comes again", "test_sign_outs::test_a_logout_token_is_used_once"),
    ("RFC 8935 2.2", "202 not before it is stored", "test_sign_out_doors::test_nothing_is_answered_before_it_is_stored"),
    ("RFC 8935 2.3", "400 with err, description and its language", "test_sign_out_doors::test_errors_are_told_in_the_words_of_each_standard"),
    ("RFC 8935 2.4", "whoever may not push is told authentication_failed", "test_sign_out_doors::test_whoever_pushes_shows_the_bearer_token"),
    ("CAEP 3.1", "session-revoked ends what the person has begun", "test_notice_claims::test_some_events_end_what_a_person_has_begun"),
    ("CAEP 3.2-3.4", "claims, credentials or an assurance that changed end it as well", "test_sign_outs::test_a_group_that_is_gone_at_the_provider_ends_what_it_allowed_at_once"),
    ("CAEP 3.4", "an assurance that has grown ends nothing", "test_notice_claims::test_only_an_assurance_that_has_grown_ends_nothing"),
    ("SSF 4.1", "one event, about `sub_id`; neither `sub` nor `exp`", "test_notice_claims::test_what_a_security_event_must_say"),
    ("SSF 4.1", "typ is secevent+jwt", "test_notice_claims::test_the_type_keeps_other_tokens_apart"),
    ("SSF 8.1.3.1", "what one side leaves undefined matches", "test_notice_claims::test_what_we_do_not_keep_narrows_nothing"),
    ("SSF 8.1.4", "a verification is taken, and does nothing", "test_sign_outs::test_what_ends_nothing_is_taken_and_ends_nothing"),
]  # fmt: skip


@cache
def _tests(module):
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("must", MUSTS, ids=lambda must: f"{must[0]}: {must[1]}"[:60])
def test_the_test_is_there(must):
    """A row whose test was renamed or taken away holds nothing."""
    module, _, name = must[2].partition("::")
    assert name in _tests(module)
