/*
 * tests/unit/store/test_file_draft.c - drafts of file://: files without a name that become objects.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "child_fixture.h"

#include "walagent/base/file.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* libc's functions are replaced in this program: a system that refuses, and the order of calls. */
static struct {
    int link_fails; /* errno of linkat; 0: it works */
    int sync_fails; /* errno of the next fdatasync of a file of this many bytes */
    off_t of_size;
    ino_t watched; /* this file's calls are written down */
    char calls[32];
} libc;

static void
note(int fd, char call)
{
    struct stat st;
    size_t len = strlen(libc.calls);
    if (libc.watched != 0 && fstat(fd, &st) == 0 && st.st_ino == libc.watched &&
        len + 1 < sizeof libc.calls)
        libc.calls[len] = call;
}

static void
watch(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    memset(&libc, 0, sizeof libc);
    libc.watched = st.st_ino;
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    if (libc.link_fails != 0) {
        errno = libc.link_fails;
        return -1;
    }
    return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

/* As the kernel does it: a failure is told once. */
int
fdatasync(int fd)
{
    struct stat st;
    note(fd, 's');
    if (libc.sync_fails != 0 && fstat(fd, &st) == 0 && st.st_size == libc.of_size) {
        errno = libc.sync_fails;
        libc.sync_fails = 0;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
    note(fd, 'r');
    return (ssize_t)syscall(SYS_pread64, fd, data, len, offset);
}

typedef struct fixture {
    char dir[64];
    wa_store *store;
} fixture;

static wa_store *
open_at(const char *dir)
{
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    wa_store_options options = {.url = url};
    wa_error err = WA_ERROR_INIT;
    wa_store *store = NULL;
    assert_int_equal(wa_store_open(&options, &store, &err), WA_OK);
    return store;
}

static int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    memset(&libc, 0, sizeof libc);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/walagent-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = open_at(f->dir);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_store_free(f->store);
    assert_int_equal(wa_remove_tree(f->dir, &err), WA_OK);
    wa_freep(&f);
    return 0;
}

/* A draft of the store with this content, written in two pieces. */
static int
draft_of(wa_store *store, const char *content)
{
    wa_error err = WA_ERROR_INIT;
    size_t len = strlen(content), half = len / 2;
    int draft = wa_store_draft(store);
    assert_true(draft >= 0);
    assert_int_equal(wa_store_draft_write(store, draft, 0, content, half, &err), WA_OK);
    assert_int_equal(wa_store_draft_write(store, draft, half, content + half, len - half, &err),
                     WA_OK);
    return draft;
}

static wa_status
put_draft(wa_store *store, const char *key, int draft, uint64_t len)
{
    wa_body body = {.fd = draft, .len = len};
    wa_error err = WA_ERROR_INIT;
    return wa_store_put(store, key, &body, "{\"n\":1}", WA_PUT_CREATE, &err);
}

static wa_status
put_text(wa_store *store, const char *key, const char *content)
{
    wa_body body = {.data = content, .len = strlen(content), .fd = -1};
    wa_error err = WA_ERROR_INIT;
    return wa_store_put(store, key, &body, "{\"n\":1}", WA_PUT_CREATE, &err);
}

static void
assert_object(wa_store *store, const char *key, const char *content)
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(8 << 20);
    WA_CLEANUP(wa_freep) char *facts = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_get(store, key, 0, UINT64_MAX, &got, &facts, &err), WA_OK);
    assert_string_equal(wa_buf_str(&got), content);
    assert_string_equal(facts, "{\"n\":1}");
}

static bool
is_the_draft(const fixture *f, const char *name, int draft)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, name);
    struct stat a, b;
    assert_int_equal(stat(path, &a), 0);
    assert_int_equal(fstat(draft, &b), 0);
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Names in a directory of the store, whatever they are. */
static size_t
names_in(const fixture *f, const char *name)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, name);
    DIR *dir = opendir(path);
    size_t count = 0;
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2; /* "." and ".." */
}

static void
a_draft_becomes_the_object_itself(void **state)
{
    fixture *f = *state;
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    assert_int_equal(put_draft(f->store, "wal/a", draft, 7), WA_OK);
    assert_object(f->store, "wal/a", "content");
    assert_true(is_the_draft(f, "wal/a", draft));
    assert_int_equal(names_in(f, "wal"), 4); /* two objects with their facts */
    struct stat st;
    assert_int_equal(fstat(draft, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

/* Its pieces end where they like; what begins to be written early is what was written. */
static void
a_large_draft_is_what_was_written(void **state)
{
    fixture *f = *state;
    const size_t len = (3u << 20) + 700001;
    WA_CLEANUP(wa_freep) char *content = wa_calloc(1, len + 1);
    wa_error err = WA_ERROR_INIT;
    for (size_t i = 0; i < len; i++)
        content[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = wa_store_draft(f->store);
    for (size_t at = 0, step = 1; at < len; at += step, step = step * 3 + 1) {
        step = step < len - at ? step : len - at;
        assert_int_equal(wa_store_draft_write(f->store, draft, at, content + at, step, &err),
                         WA_OK);
    }
    assert_int_equal(put_draft(f->store, "wal/a", draft, len), WA_OK);
    assert_true(is_the_draft(f, "wal/a", draft));
    assert_object(f->store, "wal/a", content);
}

static void
the_directory_that_is_missing_for_a_draft_is_made(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    assert_int_equal(put_draft(f->store, "new/dir/a", draft, 7), WA_OK);
    assert_object(f->store, "new/dir/a", "content");
    assert_true(is_the_draft(f, "new/dir/a", draft));
    assert_int_equal(names_in(f, "new/dir"), 2);
}

/* What a conflict keeps in quarantine. */
static void
a_draft_whose_name_is_taken_leaves_nothing_and_can_be_put_elsewhere(void **state)
{
    fixture *f = *state;
    assert_int_equal(put_text(f->store, "wal/a", "theirs"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    assert_int_equal(put_draft(f->store, "wal/a", draft, 7), WA_EXISTS);
    assert_object(f->store, "wal/a", "theirs");
    assert_int_equal(names_in(f, "wal"), 2);
    assert_int_equal(put_draft(f->store, "wal/b", draft, 7), WA_OK);
    assert_object(f->store, "wal/b", "content");
}

static void
a_draft_that_is_an_object_is_copied_the_next_time(void **state)
{
    fixture *f = *state;
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    assert_int_equal(put_draft(f->store, "wal/a", draft, 7), WA_OK);
    assert_int_equal(put_draft(f->store, "wal/b", draft, 7), WA_OK);
    assert_object(f->store, "wal/b", "content");
    assert_false(is_the_draft(f, "wal/b", draft));
}

static void
a_part_of_a_draft_is_copied(void **state)
{
    fixture *f = *state;
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    assert_int_equal(put_draft(f->store, "wal/a", draft, 4), WA_OK);
    assert_object(f->store, "wal/a", "cont");
    wa_body end = {.fd = draft, .offset = 4, .len = 3};
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_put(f->store, "wal/b", &end, "{\"n\":1}", WA_PUT_CREATE, &err),
                     WA_OK);
    assert_object(f->store, "wal/b", "ent");
    wa_body beyond = {.fd = draft, .offset = 4, .len = 7}; /* as long as the draft, and not it */
    assert_int_not_equal(wa_store_put(f->store, "wal/c", &beyond, "{\"n\":1}", WA_PUT_CREATE, &err),
                         WA_OK);
    assert_int_equal(names_in(f, "wal"), 6);
}

/* ---- what the disk refuses ---- */

static wa_status
is_synced(void *arg, wa_error *err)
{
    (void)arg;
    (void)err;
    assert_string_equal(libc.calls, "s");
    return WA_OK;
}

static void
a_draft_is_synced_before_it_gets_its_name(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "some content");
    wa_body body = {.fd = draft, .len = 12};
    wa_error err = WA_ERROR_INIT;
    watch(draft);
    assert_int_equal(wa_store_put_when(f->store, "wal/a", &body, "{\"n\":1}", WA_PUT_CREATE,
                                       is_synced, NULL, &err),
                     WA_OK);
    assert_string_equal(libc.calls, "s");
    assert_true(is_the_draft(f, "wal/a", draft));
}

static void
a_draft_is_synced_before_it_is_copied(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "some content");
    watch(draft);
    libc.link_fails = EXDEV;
    assert_int_equal(put_draft(f->store, "wal/a", draft, 12), WA_OK);
    assert_string_equal(libc.calls, "sr");
    libc.watched = 0;
    assert_false(is_the_draft(f, "wal/a", draft));
    assert_object(f->store, "wal/a", "some content");
}

/* The write-back that began early may have failed, and what it was about is forgotten. */
static void
a_draft_that_could_not_be_written_is_no_object(void **state)
{
    fixture *f = *state;
    static const struct {
        int link, sync;
        wa_status status;
    } cases[] = {{0, EIO, WA_IO},
                 {EXDEV, EIO, WA_IO},
                 {0, ENOSPC, WA_NO_SPACE},
                 {ENOENT, ENOSPC, WA_NO_SPACE}};
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "some content");
        watch(draft);
        libc.link_fails = cases[i].link;
        libc.sync_fails = cases[i].sync;
        libc.of_size = 12;
        assert_int_equal(put_draft(f->store, "wal/a", draft, 12), cases[i].status);
        assert_string_equal(libc.calls, "s"); /* not read, and not tried again */
        assert_int_equal(names_in(f, "wal"), 2);
    }
}

static void
bytes_or_facts_that_could_not_be_written_are_no_object(void **state)
{
    fixture *f = *state;
    static const off_t sizes[] = {12, 7};
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    for (size_t i = 0; i < WA_ARRAY_SIZE(sizes); i++) {
        libc.sync_fails = EIO;
        libc.of_size = sizes[i];
        assert_int_equal(put_text(f->store, "wal/a", "some content"), WA_IO);
        assert_int_equal(names_in(f, "wal"), 2);
    }
    assert_int_equal(put_text(f->store, "wal/a", "some content"), WA_OK);
}

static gid_t
group_of(const fixture *f, const char *name)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_gid;
}

/* setgid on the directory, on the root, on neither: object and facts are of one group. */
static void
a_draft_gets_the_group_that_its_directory_hands_down(void **state)
{
    fixture *f = *state;
    static const struct {
        mode_t root, dir;
        gid_t group; /* of both files */
    } cases[] = {{0750, 02750, 12345}, {02750, 0750, 0}, {0750, 0750, 0}};
    if (geteuid() != 0)
        skip();
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_freep) char *dir = wa_path_join(f->dir, "wal");
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_freep) char *key = wa_format("wal/%zu", i);
        WA_CLEANUP(wa_freep) char *facts = wa_format("%s.meta", key);
        assert_int_equal(chown(f->dir, (uid_t)-1, (cases[i].root & S_ISGID) != 0 ? 23456 : 0), 0);
        assert_int_equal(chmod(f->dir, cases[i].root), 0);
        assert_int_equal(chown(dir, (uid_t)-1, 12345), 0);
        assert_int_equal(chmod(dir, cases[i].dir), 0);
        WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
        assert_int_equal(put_draft(f->store, key, draft, 7), WA_OK);
        assert_object(f->store, key, "content");
        assert_int_equal(group_of(f, key), cases[i].group);
        assert_int_equal(group_of(f, facts), cases[i].group);
        assert_int_equal(is_the_draft(f, key, draft), i == 2);
    }
}

static wa_status
another_is_faster(void *arg, wa_error *err)
{
    (void)err;
    assert_int_equal(put_text(arg, "wal/a", "theirs"), WA_OK);
    return WA_OK;
}

static void
a_draft_never_replaces_what_another_wrote_meanwhile(void **state)
{
    fixture *f = *state;
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(f->store, "content");
    wa_body body = {.fd = draft, .len = 7};
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_put_when(f->store, "wal/a", &body, "{\"mine\":1}", WA_PUT_CREATE,
                                       another_is_faster, f->store, &err),
                     WA_EXISTS);
    assert_object(f->store, "wal/a", "theirs");
    assert_int_equal(names_in(f, "wal"), 4);
}

static void
nothing_is_left_of_a_draft_that_is_given_up(void **state)
{
    fixture *f = *state;
    int draft = draft_of(f->store, "content");
    assert_int_equal(names_in(f, ""), 0);
    wa_closep(&draft);
    assert_int_equal(names_in(f, ""), 0);
}

static void
a_store_without_drafts_says_so(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_store_freep) wa_store *memory = wa_store_mem_new();
    assert_int_equal(wa_store_draft(memory), -1);
    WA_CLEANUP(wa_freep) char *missing = wa_path_join(f->dir, "not-mounted");
    WA_CLEANUP(wa_store_freep) wa_store *away = open_at(missing);
    assert_int_equal(wa_store_draft(away), -1);
    assert_false(wa_path_exists(missing));
    wa_store_make_read_only(f->store);
    assert_int_equal(wa_store_draft(f->store), -1);
}

static void
mirrors_copy_the_draft_of_the_main_store(void **state)
{
    fixture *f = *state;
    wa_store *memory = wa_store_mem_new();
    WA_CLEANUP(wa_freep) char *beside = wa_path_join(f->dir, "mirror");
    wa_store *directory = open_at(beside);
    WA_CLEANUP(wa_freep) char *first = wa_path_join(f->dir, "main");
    assert_int_equal(mkdir(first, 0750), 0);
    wa_mirror mirrors[] = {{memory, "memory"}, {directory, "directory"}};
    WA_CLEANUP(wa_store_freep)
    wa_store *store = wa_store_mirror_new(open_at(first), mirrors, WA_ARRAY_SIZE(mirrors));
    assert_int_equal(put_text(store, "wal/first", "makes the directory"), WA_OK);
    WA_CLEANUP(wa_closep) int draft = draft_of(store, "content");
    assert_int_equal(put_draft(store, "wal/a", draft, 7), WA_OK);
    for (size_t i = 0; i < wa_store_members(store); i++)
        assert_object(wa_store_member(store, i), "wal/a", "content");
    assert_true(is_the_draft(f, "main/wal/a", draft));
    assert_false(is_the_draft(f, "mirror/wal/a", draft));
}

/* ---- crashes, and a system that refuses ---- */

#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
static void
die_while_putting(const fixture *f, const char *point)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("WALAGENT_CRASH_POINT", point, 1);
        int draft = draft_of(f->store, "of the dead");
        _exit(put_draft(f->store, "wal/a", draft, 11) == WA_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
a_draft_whose_writer_dies_is_whole_or_does_not_count(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_time future = wa_time_now() + INT64_C(3600) * 1000000;
    assert_int_equal(put_text(f->store, "wal/first", "makes the directory"), WA_OK);
    die_while_putting(f, "store-file-before-names");
    assert_int_equal(wa_store_head(f->store, "wal/a", NULL, NULL, NULL, &err), WA_NOT_FOUND);
    assert_true(names_in(f, "wal") > 2);
    assert_int_equal(wa_store_abort_uploads(f->store, "", future, NULL, &err), WA_OK);
    assert_int_equal(names_in(f, "wal"), 2); /* its temporary name is cleaned up like any other */
    die_while_putting(f, "store-file-before-directory-sync");
    assert_object(f->store, "wal/a", "of the dead");
}
#endif

/* Runs in a child with its own mounts: 0 as expected, 77 not possible here. */
static int
fill_small_file_system(const char *dir)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=256k") != 0)
        return NOT_PERMITTED_HERE;
    WA_CLEANUP(wa_store_freep) wa_store *store = open_at(dir);
    WA_CLEANUP(wa_freep) char *large = wa_calloc(1, 1 << 20);
    wa_error err = WA_ERROR_INIT;
    int draft = wa_store_draft(store);
    if (draft < 0)
        return NOT_PERMITTED_HERE; /* tmpfs knows no such files here */
    if (wa_store_draft_write(store, draft, 0, large, 1 << 20, &err) != WA_NO_SPACE)
        return 1;
    if (strstr(err.message, dir) == NULL || strstr(err.hint, "free space") == NULL)
        return 2;
    wa_closep(&draft);
    return put_text(store, "small", "x") == WA_OK ? 0 : 3;
}

static void
a_draft_on_a_full_file_system_is_no_space_and_its_room_comes_back(void **state)
{
    fixture *f = *state;
    assert_child(in_a_child(fill_small_file_system, f->dir));
}

/* The draft lies on the file system below. */
static int
mount_over_the_root(const char *dir)
{
    WA_CLEANUP(wa_store_freep) wa_store *store = open_at(dir);
    int draft = wa_store_draft(store);
    wa_error err = WA_ERROR_INIT;
    if (wa_store_draft_write(store, draft, 0, "content", 7, &err) != WA_OK)
        return 1;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=256k") != 0)
        return NOT_PERMITTED_HERE;
    if (put_text(store, "first", "x") != WA_OK || put_draft(store, "a", draft, 7) != WA_OK)
        return 2;
    assert_object(store, "a", "content");
    wa_closep(&draft);
    return 0;
}

static void
a_draft_of_another_file_system_is_copied(void **state)
{
    fixture *f = *state;
    assert_child(in_a_child(mount_over_the_root, f->dir));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_draft_becomes_the_object_itself),
        TEST(a_large_draft_is_what_was_written),
        TEST(the_directory_that_is_missing_for_a_draft_is_made),
        TEST(a_draft_whose_name_is_taken_leaves_nothing_and_can_be_put_elsewhere),
        TEST(a_draft_that_is_an_object_is_copied_the_next_time),
        TEST(a_part_of_a_draft_is_copied),
        TEST(a_draft_is_synced_before_it_gets_its_name),
        TEST(a_draft_is_synced_before_it_is_copied),
        TEST(a_draft_that_could_not_be_written_is_no_object),
        TEST(bytes_or_facts_that_could_not_be_written_are_no_object),
        TEST(a_draft_gets_the_group_that_its_directory_hands_down),
        TEST(a_draft_never_replaces_what_another_wrote_meanwhile),
        TEST(nothing_is_left_of_a_draft_that_is_given_up),
        TEST(a_store_without_drafts_says_so),
        TEST(mirrors_copy_the_draft_of_the_main_store),
#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
        TEST(a_draft_whose_writer_dies_is_whole_or_does_not_count),
#endif
        TEST(a_draft_on_a_full_file_system_is_no_space_and_its_room_comes_back),
        TEST(a_draft_of_another_file_system_is_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
