/*
 * test_metrics.c - what an agent says before it reached anything, and notifications without
 * systemd.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "agent_internal.h"

#include "walagent/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static wa_config *
parse(const char *text)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *config = NULL;
    if (wa_config_parse("test", text, strlen(text), &config, &err) != WA_OK)
        fail_msg("%s", err.message);
    return config;
}

static void
metrics_before_the_repository_was_reached_are_well_formed(void **state)
{
    (void)state;
    wa_agent_options options = {.version = "1.2.3"};
    WA_CLEANUP(wa_config_freep) wa_config *config = parse("[cluster]\nname = main\n");
    wa_agent agent = {.options = &options, .config = config, .started = wa_time_now()};
    wa_mutex_init(&agent.mutex);
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(65536);
    wa_agent_metrics(&agent, &out);
    const char *text = wa_buf_str(&out);
    assert_non_null(strstr(text, "walagent_info{version=\"1.2.3\"} 1\n"));
    assert_non_null(strstr(text, "\nwalagent_repository_up 0\n"));
    assert_null(strstr(text, "walagent_stream_state"));
    assert_null(strstr(text, "walagent_store_requests_total"));
    assert_true(wa_str_ends(text, "\n"));
    wa_mutex_done(&agent.mutex);
}

static void
an_agent_that_waits_says_for_what_and_is_not_ready(void **state)
{
    (void)state;
    wa_agent_options options = {.version = "1.2.3"};
    WA_CLEANUP(wa_config_freep)
    wa_config *config = parse("[cluster]\nname = main\n[repository]\nurl = s3://b/p\n"
                              "s3_secret_access_key = hush-hush\n");
    wa_agent agent = {.options = &options, .config = config, .started = wa_time_now()};
    wa_mutex_init(&agent.mutex);
    char reason[64];
    assert_false(wa_agent_is_ready(&agent, reason, sizeof reason));
    assert_string_equal(reason, "not streaming yet");
    snprintf(agent.waiting_for, sizeof agent.waiting_for, "the store is away");
    assert_false(wa_agent_is_ready(&agent, reason, sizeof reason));
    assert_string_equal(reason, "the store is away");
    WA_CLEANUP(wa_json_freep) json_t *json = wa_agent_status(&agent);
    assert_string_equal(wa_json_string_or(json, "waiting_for", ""), "the store is away");
    assert_null(json_object_get(json, "stream"));
    WA_CLEANUP(wa_freep) char *dump = wa_json_dump(json, 0);
    assert_null(strstr(dump, "hush-hush"));
    wa_mutex_done(&agent.mutex);
}

static void
the_watchdog_is_fed_twice_as_often_as_systemd_asks(void **state)
{
    (void)state;
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(wa_notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "60000000", 1);
    assert_int_equal(wa_notify_watchdog_ms(), 30000);
    setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(wa_notify_watchdog_ms(), 0);
    unsetenv("WATCHDOG_USEC");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_before_the_repository_was_reached_are_well_formed),
        cmocka_unit_test(an_agent_that_waits_says_for_what_and_is_not_ready),
        cmocka_unit_test(the_watchdog_is_fed_twice_as_often_as_systemd_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
