/*
 * Test of docs/formats.md, "Restore by hand": WAL from a directory with sh, zstd, sed and dd alone.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/base/file.h"
#include "walagent/repo/tail.h"

#include <spawn.h>
#include <sys/wait.h>

/* As in the documentation, with the directory's forms of the commands. */
static const char script[] =
    "set -eu; R=$1; OUT=$2; SIZE=1048576\n"
    "find $R/wal -name '*.zst' -exec sh -c "
    "'zstd -dqo $2/$(basename \"$1\" .zst) \"$1\"' _ {} $OUT \\;\n"
    "S=000000010000000000000004\n"
    "truncate -s $SIZE $OUT/$S\n"
    "find $R/tail/*/$S -name '*.zst' | LC_ALL=C sort | while read key; do\n"
    "  base=$(sed 's/.*\"base\":\"\\([0-9A-F]*\\)\".*/\\1/' $key.meta)\n"
    "  zstd -dc $key | dd of=$OUT/$S bs=1M conv=notrunc oflag=seek_bytes status=none "
    "seek=$((0x$base % SIZE)) iflag=fullblock\n"
    "done\n";

static void
run_script(const char *root, const char *out)
{
    char *argv[] = {(char[]){"sh"},
                    (char[]){"-c"},
                    wa_strdup(script),
                    (char[]){"sh"},
                    wa_strdup(root),
                    wa_strdup(out),
                    NULL};
    pid_t pid = 0;
    int status = 0;
    assert_int_equal(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    free(argv[2]);
    free(argv[4]);
    free(argv[5]);
}

static void
expect_file(const char *dir, const char *name, const char *expected)
{
    wa_error err = WA_ERROR_INIT;
    char *path = wa_path_join(dir, name);
    wa_buf got = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_file_read(path, 2 * SEGMENT, &got, &err));
    assert_int_equal(got.len, SEGMENT);
    assert_memory_equal(got.data, expected, SEGMENT);
    wa_buf_done(&got);
    free(path);
}

static void
wal_is_restored_with_stock_tools(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    char dir[] = "/tmp/walagent-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *url = wa_format("file://%s/repo", dir), *out = wa_path_join(dir, "out");
    fixture f = {0};
    wa_repo_options options = {.store = {.url = url}, .cluster = "main"};
    wa_cluster identity = fixture_identity();
    bool created = false;
    OK(wa_repo_open(&options, &f.repo, &err));
    OK(wa_repo_init(f.repo, &identity, false, &created, &err));
    OK(wa_mkdir_p(out, 0700, &err));
    f.first = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    put_segment(&f, &f.first, 3, 7);

    static const struct {
        uint32_t epoch;
        size_t base, start, end;
    } chunks[] = {{1, 0, 0, 100},
                  {1, 100, 100, 9000},
                  {1, 0, 9000, 9500},
                  {2, 9500, 9500, 70000},
                  {2, 70000, 70000, 70001}};
    wa_lsn first = 4ull * SEGMENT;
    char *truth = pattern(9, SEGMENT), *third = pattern(7, SEGMENT);
    for (size_t i = 0; i < WA_ARRAY_SIZE(chunks); i++)
        OK(wa_tail_put(f.repo, &f.first, chunks[i].epoch, first + chunks[i].start,
                       first + chunks[i].base, truth + chunks[i].base,
                       chunks[i].end - chunks[i].base, NULL, true, &err));
    OK(wa_tail_put_seal(f.repo, &f.first, 1, first + 9500, &err));

    char *root = wa_format("%s/repo/main/%llu", dir, (unsigned long long)SYSTEM_ID);
    run_script(root, out);
    memset(truth + 70001, 0, SEGMENT - 70001);
    expect_file(out, "000000010000000000000003", third);
    expect_file(out, "000000010000000000000004", truth);
    OK(wa_remove_tree(dir, &err));
    free(root);
    free(truth);
    free(third);
    free(url);
    free(out);
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wal_is_restored_with_stock_tools)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
