/*
 * test_file.c - durable writes, exact reads, directories, paths and locks.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/file.h"
#include "walagent/base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/wa-test-file-XXXXXX";
static char template[sizeof dir];

static int
make_directory(void **state)
{
    (void)state;
    memcpy(template, dir, sizeof dir);
    return mkdtemp(template) != NULL ? 0 : -1;
}

static int
remove_directory(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    return wa_remove_tree(template, &err) == WA_OK ? 0 : -1;
}

static char *
in_dir(const char *name)
{
    return wa_path_join(template, name);
}

static size_t
count_entries(const char *path)
{
    size_t count = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d) != NULL)
        count++;
    closedir(d);
    return count - 2;
}

static void
assert_content(const char *path, const char *expected)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(0);
    assert_int_equal(wa_file_read(path, 1000, &content, &err), WA_OK);
    assert_string_equal(wa_buf_str(&content), expected);
}

static void
a_written_file_reads_back_and_leaves_nothing_else(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    assert_int_equal(wa_file_write(path, "one", 3, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_content(path, "one");
    assert_int_equal(wa_file_write(path, "two", 3, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_content(path, "two");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(count_entries(template), 1);
}

static void
create_refuses_to_overwrite_and_keeps_what_is_there(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    assert_int_equal(wa_file_write(path, "one", 3, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_file_write(path, "two", 3, 0600, WA_WRITE_CREATE, &err), WA_EXISTS);
    assert_non_null(strstr(err.message, path));
    assert_content(path, "one");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(count_entries(template), 1);
}

static void
a_failed_write_leaves_no_temporary_file(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("d");
    assert_int_equal(wa_mkdir_p(path, 0700, &err), WA_OK);
    /* the name is a directory: the rename fails after the temporary file was written */
    assert_int_not_equal(wa_file_write(path, "x", 1, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_int_equal(wa_file_write(path, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_EXISTS);
    assert_int_equal(count_entries(template), 1);
}

static void
missing_directories_and_files_are_not_found(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("no/f");
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(10);
    wa_buf_puts(&content, "kept");
    assert_int_equal(wa_file_write(path, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_NOT_FOUND);
    assert_int_equal(wa_file_read(path, 10, &content, &err), WA_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_string_equal(wa_buf_str(&content), "kept");
}

static void
a_file_larger_than_the_limit_is_not_read(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(10);
    assert_int_equal(wa_file_write(path, "12345", 5, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_file_read(path, 4, &content, &err), WA_NO_SPACE);
    assert_int_equal(wa_file_read(path, 5, &content, &err), WA_OK);
    assert_int_equal(content.len, 5);
}

static void
large_and_empty_files_read_back(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    WA_CLEANUP(wa_freep) char *data = wa_malloc(200000);
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(0);
    for (int i = 0; i < 200000; i++)
        data[i] = (char)(i % 251);
    assert_int_equal(wa_file_write(path, data, 200000, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_int_equal(wa_file_read(path, 200000, &content, &err), WA_OK);
    assert_int_equal(content.len, 200000);
    assert_memory_equal(content.data, data, 200000);
    assert_int_equal(wa_file_write(path, NULL, 0, 0600, WA_WRITE_REPLACE, &err), WA_OK);
    assert_int_equal(wa_file_read(path, 10, &content, &err), WA_OK);
    assert_int_equal(content.len, 0);
}

static void
a_range_past_the_end_is_corrupt(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char data[8] = "";
    assert_true(fd >= 0);
    assert_int_equal(wa_write_all(fd, "0123", 4, path, &err), WA_OK);
    assert_int_equal(wa_pwrite_all(fd, "XY", 2, 3, path, &err), WA_OK);
    assert_int_equal(wa_fsync(fd, path, &err), WA_OK);
    assert_int_equal(wa_pread_all(fd, data, 5, 0, path, &err), WA_OK);
    assert_string_equal(data, "012XY");
    assert_int_equal(wa_pread_all(fd, data, 5, 1, path, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "ends at byte 5"));
}

static void
a_full_disk_is_no_space(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_closep) int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(wa_write_all(fd, "x", 1, "/dev/full", &err), WA_NO_SPACE);
    assert_int_equal(wa_pwrite_all(fd, "x", 1, 0, "/dev/full", &err), WA_NO_SPACE);
}

static void
a_rename_moves_between_directories(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *from = in_dir("a/f");
    WA_CLEANUP(wa_freep) char *to = in_dir("b/g");
    WA_CLEANUP(wa_freep) char *a = in_dir("a");
    WA_CLEANUP(wa_freep) char *b = in_dir("b");
    assert_int_equal(wa_mkdir_p(a, 0700, &err), WA_OK);
    assert_int_equal(wa_mkdir_p(b, 0700, &err), WA_OK);
    assert_int_equal(wa_file_write(from, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_rename_durable(from, to, &err), WA_OK);
    assert_false(wa_path_exists(from));
    assert_content(to, "x");
    assert_int_equal(wa_rename_durable(from, to, &err), WA_NOT_FOUND);
}

static void
mkdir_makes_parents_and_accepts_what_is_there(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *deep = in_dir("x//y/z/");
    WA_CLEANUP(wa_freep) char *file = in_dir("f");
    WA_CLEANUP(wa_freep) char *below = in_dir("f/g");
    assert_int_equal(wa_mkdir_p(deep, 0700, &err), WA_OK);
    assert_int_equal(wa_mkdir_p(deep, 0700, &err), WA_OK);
    struct stat st;
    assert_int_equal(stat(deep, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(wa_mkdir_p("/", 0700, &err), WA_OK);
    assert_int_equal(wa_file_write(file, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_mkdir_p(file, 0700, &err), WA_IO);
    assert_int_equal(wa_mkdir_p(below, 0700, &err), WA_IO);
}

static void
a_tree_is_removed_without_following_links(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *outside = in_dir("outside");
    WA_CLEANUP(wa_freep) char *kept = in_dir("outside/kept");
    WA_CLEANUP(wa_freep) char *tree = in_dir("tree");
    WA_CLEANUP(wa_freep) char *deep = in_dir("tree/a/b");
    WA_CLEANUP(wa_freep) char *file = in_dir("tree/a/b/f");
    WA_CLEANUP(wa_freep) char *link = in_dir("tree/a/link");
    assert_int_equal(wa_mkdir_p(outside, 0700, &err), WA_OK);
    assert_int_equal(wa_mkdir_p(deep, 0700, &err), WA_OK);
    assert_int_equal(wa_file_write(kept, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(wa_file_write(file, "x", 1, 0600, WA_WRITE_CREATE, &err), WA_OK);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(wa_remove_tree(tree, &err), WA_OK);
    assert_false(wa_path_exists(tree));
    assert_true(wa_path_exists(kept));
    assert_int_equal(wa_remove_tree(tree, &err), WA_OK);
    assert_int_equal(wa_remove_tree(kept, &err), WA_OK);
    assert_false(wa_path_exists(kept));
}

static void
existence_and_emptiness_are_positive_answers(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *link = in_dir("dangling");
    WA_CLEANUP(wa_freep) char *empty = in_dir("empty");
    WA_CLEANUP(wa_freep) char *missing = in_dir("missing");
    assert_int_equal(symlink("nowhere", link), 0);
    assert_true(wa_path_exists(link));
    assert_false(wa_path_exists(missing));
    assert_int_equal(wa_mkdir_p(empty, 0700, &err), WA_OK);
    assert_true(wa_dir_is_empty(empty));
    assert_true(wa_dir_is_empty(missing));
    assert_false(wa_dir_is_empty(template));
    assert_false(wa_dir_is_empty("/dev/null"));
    assert_true(wa_disk_free(template) > 0);
    assert_true(wa_disk_free(missing) == UINT64_MAX);
}

static void
paths_are_joined_and_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *path, *dir, *base;
    } cases[] = {
        {"a", ".", "a"},     {"a/b", "a", "b"},  {"/a", "/", "a"},
        {"/a/b", "/a", "b"}, {"a//b", "a", "b"}, {"//a", "/", "a"},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_freep) char *d = wa_path_dir(cases[i].path);
        assert_string_equal(d, cases[i].dir);
        assert_string_equal(wa_path_base(cases[i].path), cases[i].base);
    }
    WA_CLEANUP(wa_freep) char *one = wa_path_join("a", "b");
    WA_CLEANUP(wa_freep) char *two = wa_path_join("a/", "b");
    assert_string_equal(one, "a/b");
    assert_string_equal(two, "a/b");
}

static void
a_lock_excludes_others_until_it_is_closed(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = in_dir("lock");
    int fd = -1;
    int other = -1;
    assert_int_equal(wa_lock_file(path, &fd, &err), WA_OK);
    assert_int_equal(wa_lock_file(path, &other, &err), WA_CONFLICT);
    assert_int_equal(other, -1);
    wa_closep(&fd);
    assert_int_equal(wa_lock_file(path, &other, &err), WA_OK);
    wa_closep(&other);
}

/* Kill the writer at each of its steps: the name holds the old content or the new one. */
static void
a_crash_leaves_the_old_file_or_the_new_one(void **state)
{
    (void)state;
#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
    static const struct {
        const char *point, *left;
    } cases[] = {{"file-written", "old"}, {"file-synced", "old"}, {"file-renamed", "new"}};
    WA_CLEANUP(wa_freep) char *path = in_dir("f");
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_file_write(path, "old", 3, 0600, WA_WRITE_REPLACE, &err), WA_OK);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("WALAGENT_CRASH_POINT", cases[i].point, 1);
            _exit(wa_file_write(path, "new", 3, 0600, WA_WRITE_REPLACE, &err) == WA_OK ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_content(path, cases[i].left);
    }
#else
    print_message("built without crash points (the presets dev, tsan and coverage have them)\n");
    skip();
#endif
}

#define in_directory(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_written_file_reads_back_and_leaves_nothing_else),
        in_directory(create_refuses_to_overwrite_and_keeps_what_is_there),
        in_directory(a_failed_write_leaves_no_temporary_file),
        in_directory(missing_directories_and_files_are_not_found),
        in_directory(a_file_larger_than_the_limit_is_not_read),
        in_directory(large_and_empty_files_read_back),
        in_directory(a_range_past_the_end_is_corrupt),
        cmocka_unit_test(a_full_disk_is_no_space),
        in_directory(a_rename_moves_between_directories),
        in_directory(mkdir_makes_parents_and_accepts_what_is_there),
        in_directory(a_tree_is_removed_without_following_links),
        in_directory(existence_and_emptiness_are_positive_answers),
        cmocka_unit_test(paths_are_joined_and_taken_apart),
        in_directory(a_lock_excludes_others_until_it_is_closed),
        in_directory(a_crash_leaves_the_old_file_or_the_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
