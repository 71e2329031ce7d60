/*
 * test_datadir.c - which names in a data directory are relations, and which are left out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/mem.h"
#include "walagent/pg/datadir.h"

static void
relations_are_told_by_their_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        wa_relfile file;
    } good[] = {
        {"16384", {16384, WA_FORK_MAIN, 0}},
        {"16384.3", {16384, WA_FORK_MAIN, 3}},
        {"1259_fsm", {1259, WA_FORK_FSM, 0}},
        {"1259_vm.12", {1259, WA_FORK_VM, 12}},
        {"4294967295", {4294967295u, WA_FORK_MAIN, 0}},
        {"2_init", {2, WA_FORK_INIT, 0}},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(good); i++) {
        wa_relfile got;
        assert_true(wa_relfile_parse(good[i].name, &got));
        assert_int_equal(got.number, good[i].file.number);
        assert_int_equal(got.fork, good[i].file.fork);
        assert_int_equal(got.segment, good[i].file.segment);
    }
}

static void
other_names_are_no_relations(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "PG_VERSION",     "16384_",   "16384_abc",
                                      "16384.", "16384.0",        "016384",   "4294967296",
                                      "16384 ", "16384_fsm_vm",   "t3_16384", "16384.3.4",
                                      "-1",     "pg_filenode.map"};
    wa_relfile got;
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++)
        assert_false(wa_relfile_parse(bad[i], &got));
}

static void
temporary_relations_carry_their_session(void **state)
{
    (void)state;
    assert_true(wa_relfile_is_temporary("t3_16384"));
    assert_true(wa_relfile_is_temporary("t12_16384_fsm.1"));
    assert_false(wa_relfile_is_temporary("16384"));
    assert_false(wa_relfile_is_temporary("t_16384"));
    assert_false(wa_relfile_is_temporary("t3_"));
    assert_false(wa_relfile_is_temporary("t3_16384x"));
    assert_false(wa_relfile_is_temporary("table"));
}

static void
directories_of_relations_are_known(void **state)
{
    (void)state;
    assert_true(wa_datadir_is_database("base/5"));
    assert_true(wa_datadir_is_database("pg_tblspc/16400/PG_15_202209061/5"));
    assert_false(wa_datadir_is_database("base"));
    assert_false(wa_datadir_is_database("base/pgsql_tmp"));
    assert_false(wa_datadir_is_database("other/5"));
    assert_false(wa_datadir_is_database("pg_tblspc/16400"));
    assert_false(wa_datadir_is_database("pg_tblspc/16400/PG_15_202209061"));
    assert_false(wa_datadir_is_database("pg_tblspc/16400/PG_15_202209061/5/6"));
    assert_false(wa_datadir_is_database("global"));
    assert_true(wa_datadir_has_relations("global"));
    assert_false(wa_datadir_has_relations("pg_xact"));
}

static void
what_the_server_leaves_out_is_left_out(void **state)
{
    (void)state;
    static const char *const out[] = {
        "postmaster.pid",   "postmaster.opts",          "pg_internal.init", "pg_internal.init.123",
        "backup_label.old", "postgresql.auto.conf.tmp", "backup_manifest",  "pgsql_tmp",
        "pgsql_tmp1.0",     "current_logfiles.tmp",     "tablespace_map",   "pgsql_tmp_walagent"};
    static const char *const in[] = {"PG_VERSION", "postgresql.auto.conf", "current_logfiles",
                                     "pg_control", "pg_hba.conf",          "postmaster.pid2"};
    static const char *const empty[] = {"pg_replslot", "pg_dynshmem",  "pg_notify",  "pg_serial",
                                        "pg_stat_tmp", "pg_snapshots", "pg_subtrans"};
    static const char *const full[] = {"pg_xact", "pg_multixact", "pg_stat", "pg_twophase", "base"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(out); i++)
        assert_true(wa_datadir_is_excluded(out[i]));
    for (size_t i = 0; i < WA_ARRAY_SIZE(in); i++)
        assert_false(wa_datadir_is_excluded(in[i]));
    for (size_t i = 0; i < WA_ARRAY_SIZE(empty); i++)
        assert_true(wa_datadir_is_emptied(empty[i]));
    for (size_t i = 0; i < WA_ARRAY_SIZE(full); i++)
        assert_false(wa_datadir_is_emptied(full[i]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relations_are_told_by_their_names),
        cmocka_unit_test(other_names_are_no_relations),
        cmocka_unit_test(temporary_relations_carry_their_session),
        cmocka_unit_test(directories_of_relations_are_known),
        cmocka_unit_test(what_the_server_leaves_out_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
