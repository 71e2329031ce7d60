/*
 * test_hosts.c - connection strings: split into hosts, shown without secrets; tidy messages.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conn_internal.h"

static void
assert_split(const char *conninfo, const char *const *expected)
{
    WA_CLEANUP(wa_strv_done) wa_strv list = {0};
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_pg_split_hosts(conninfo, &list, &err), WA_OK);
    size_t n = 0;
    for (; expected[n] != NULL; n++) {
        assert_true(n < list.count);
        assert_string_equal(list.items[n], expected[n]);
    }
    assert_int_equal(list.count, n);
}

static void
one_host_stays_one(void **state)
{
    (void)state;
    const char *const expected[] = {"user='u' host='a' port='5433'", NULL};
    assert_split("host=a port=5433 user=u", expected);
}

static void
several_hosts_keep_everything_else(void **state)
{
    (void)state;
    const char *const expected[] = {"user='u' password='p\\'w\\\\x y' host='a' port='1'",
                                    "user='u' password='p\\'w\\\\x y' host='b' port='2'", NULL};
    assert_split("host=a,b port=1,2 user=u password='p\\'w\\\\x y'", expected);
}

static void
a_single_port_is_for_all_hosts(void **state)
{
    (void)state;
    const char *const expected[] = {"host='a' port='7'", "host='/tmp' port='7'", NULL};
    assert_split("host=a,/tmp port=7", expected);
}

static void
an_empty_port_is_left_to_the_default(void **state)
{
    (void)state;
    const char *const expected[] = {"host='a'", "host='b' port='9'", NULL};
    assert_split("host=a,b port=,9", expected);
}

static void
a_uri_is_split_too(void **state)
{
    (void)state;
    const char *const expected[] = {"user='u' dbname='d' host='h1' port='5433' sslmode='require'",
                                    "user='u' dbname='d' host='::1' port='5434' sslmode='require'",
                                    NULL};
    assert_split("postgresql://u@h1:5433,[::1]:5434/d?sslmode=require", expected);
}

static void
what_chooses_among_hosts_is_left_out(void **state)
{
    (void)state;
    const char *const expected[] = {"host='a'", "host='b'", NULL};
    assert_split("host=a,b target_session_attrs=read-write", expected);
}

static void
addresses_and_names_go_together(void **state)
{
    (void)state;
    const char *const expected[] = {"host='a' hostaddr='127.0.0.1'",
                                    "host='b' hostaddr='127.0.0.2'", NULL};
    assert_split("host=a,b hostaddr=127.0.0.1,127.0.0.2", expected);
}

static void
hosts_come_from_the_environment_and_a_service_file(void **state)
{
    (void)state;
    const char *const from_env[] = {"user='u' host='e1'", "user='u' host='e2'", NULL};
    assert_int_equal(setenv("PGHOST", "e1,e2", 1), 0);
    assert_split("user=u", from_env);
    assert_int_equal(unsetenv("PGHOST"), 0);

    char path[] = "/tmp/wa-test-service-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "[svc]\nhost=/nonexistent-a,/nonexistent-b\nport=5,6\nuser=s\n";
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(close(fd), 0);
    assert_int_equal(setenv("PGSERVICEFILE", path, 1), 0);
    WA_CLEANUP(wa_strv_done) wa_strv list = {0};
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_pg_split_hosts("service=svc", &list, &err), WA_OK);
    assert_int_equal(list.count, 2);
    assert_non_null(strstr(list.items[0], "host='/nonexistent-a'"));
    assert_non_null(strstr(list.items[0], "port='5'"));
    assert_non_null(strstr(list.items[1], "host='/nonexistent-b'"));
    assert_non_null(strstr(list.items[1], "user='s'"));
    assert_int_equal(wa_pg_split_hosts("service=unknown", &list, &err), WA_INVALID);
    assert_int_equal(unsetenv("PGSERVICEFILE"), 0);
    assert_int_equal(unlink(path), 0);
}

static void
lists_of_unequal_length_are_refused(void **state)
{
    (void)state;
    WA_CLEANUP(wa_strv_done) wa_strv list = {0};
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_pg_split_hosts("host=a,b,c port=1,2", &list, &err), WA_INVALID);
    assert_int_equal(wa_pg_split_hosts("host=a,b hostaddr=1.1.1.1", &list, &err), WA_INVALID);
    assert_int_equal(list.count, 0);
}

static void
the_public_form_has_no_secret(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *text = NULL;
    assert_int_equal(wa_pg_conninfo_public("postgres://u:geheim@h/d?sslpassword=auch", &text, &err),
                     WA_OK);
    assert_string_equal(text, "user='u' dbname='d' host='h'");
}

static void
a_broken_conninfo_does_not_show_its_password(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *text = NULL;
    assert_int_equal(wa_pg_conninfo_public("host=a password=my geheim", &text, &err), WA_INVALID);
    assert_null(strstr(err.message, "geheim"));
    assert_null(strstr(err.hint, "geheim"));
    assert_int_equal(wa_pg_conninfo_public("hots=a", &text, &err), WA_INVALID);
    assert_non_null(strstr(err.message, "hots"));
}

static void
a_verbose_message_becomes_one_line_and_its_sqlstate(void **state)
{
    (void)state;
    char sqlstate[WA_PG_SQLSTATE];
    WA_CLEANUP(wa_freep)
    char *text = wa_pg_tidy_message(
        "connection to server at \"127.0.0.1\", port 5 failed: FATAL:  28P01: password "
        "authentication failed for user \"x\"\nLOCATION:  auth_failed, auth.c:329\n",
        sqlstate);
    assert_string_equal(sqlstate, "28P01");
    assert_string_equal(text, "connection to server at \"127.0.0.1\", port 5 failed: FATAL: "
                              "password authentication failed for user \"x\"");
    WA_CLEANUP(wa_freep) char *plain = wa_pg_tidy_message("refused\n\tIs it running?\n", sqlstate);
    assert_string_equal(sqlstate, "");
    assert_string_equal(plain, "refused; Is it running?");
}

static void
sqlstates_become_statuses(void **state)
{
    (void)state;
    assert_int_equal(wa_pg_status_of("08006"), WA_UNAVAILABLE);
    assert_int_equal(wa_pg_status_of("57P03"), WA_UNAVAILABLE);
    assert_int_equal(wa_pg_status_of("28000"), WA_DENIED);
    assert_int_equal(wa_pg_status_of("42501"), WA_DENIED);
    assert_int_equal(wa_pg_status_of("58P01"), WA_NOT_FOUND);
    assert_int_equal(wa_pg_status_of("42704"), WA_NOT_FOUND);
    assert_int_equal(wa_pg_status_of("42601"), WA_INVALID);
    assert_int_equal(wa_pg_status_of("XX000"), WA_FAILED);
}

static void
quoting_doubles_the_quote(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *literal = wa_pg_quote_literal("a'b\\");
    WA_CLEANUP(wa_freep) char *ident = wa_pg_quote_ident("a\"b");
    assert_string_equal(literal, "'a''b\\'");
    assert_string_equal(ident, "\"a\"\"b\"");
}

int
main(void)
{
    (void)unsetenv("PGHOST");
    (void)unsetenv("PGPORT");
    (void)unsetenv("PGSERVICE");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_host_stays_one),
        cmocka_unit_test(several_hosts_keep_everything_else),
        cmocka_unit_test(a_single_port_is_for_all_hosts),
        cmocka_unit_test(an_empty_port_is_left_to_the_default),
        cmocka_unit_test(a_uri_is_split_too),
        cmocka_unit_test(what_chooses_among_hosts_is_left_out),
        cmocka_unit_test(addresses_and_names_go_together),
        cmocka_unit_test(hosts_come_from_the_environment_and_a_service_file),
        cmocka_unit_test(lists_of_unequal_length_are_refused),
        cmocka_unit_test(the_public_form_has_no_secret),
        cmocka_unit_test(a_broken_conninfo_does_not_show_its_password),
        cmocka_unit_test(a_verbose_message_becomes_one_line_and_its_sqlstate),
        cmocka_unit_test(sqlstates_become_statuses),
        cmocka_unit_test(quoting_doubles_the_quote),
    };
    return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
