/*
 * tests/unit/store/test_file.c - what file:// promises beyond the contract: crashes, races, left
 * overs, full and forbidden file systems. The contract itself is store_contract.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "child_fixture.h"

#include "walagent/base/file.h"
#include "walagent/base/thread.h"
#include "walagent/store/drivers.h"
#include "walagent/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct fixture {
    char dir[64];
    wa_store *store;
} fixture;

static wa_store *
open_at(const char *dir, uint64_t budget_ms)
{
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    wa_store_options options = {.url = url, .budget_ms = budget_ms};
    wa_error err = WA_ERROR_INIT;
    wa_store *store = NULL;
    assert_int_equal(wa_store_open(&options, &store, &err), WA_OK);
    return store;
}

static int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/walagent-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = open_at(f->dir, 0);
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

static wa_status
put(wa_store *store, const char *key, const char *content, const char *meta, wa_put_mode mode)
{
    wa_body body = {content, strlen(content), -1, 0};
    wa_error err = WA_ERROR_INIT;
    return wa_store_put(store, key, &body, meta, mode, &err);
}

static wa_status
delete_one(wa_store *store, const char *key)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_error err = WA_ERROR_INIT;
    wa_strv_add(&keys, key);
    return wa_store_delete(store, &keys, &err);
}

static void
assert_object(wa_store *store, const char *key, const char *content, const char *meta)
{
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(1 << 16);
    WA_CLEANUP(wa_freep) char *facts = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_get(store, key, 0, UINT64_MAX, &got, &facts, &err), WA_OK);
    assert_string_equal(wa_buf_str(&got), content);
    assert_string_equal(facts, meta);
}

static wa_status
append_key(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static void
list(wa_store *store, const wa_list_options *options, wa_strv *ret)
{
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_list(store, options, append_key, ret, &err), WA_OK);
}

static size_t
count_objects(wa_store *store)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    list(store, &(wa_list_options){.prefix = ""}, &keys);
    return keys.count;
}

/* Make or overwrite a file below the store's directory; an age in seconds when not 0. */
static void
plant(const fixture *f, const char *name, const char *content, long age)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, name);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_mkdir_p(dir, 0750, &err), WA_OK);
    assert_int_equal(wa_file_write(path, content, strlen(content), 0640, WA_WRITE_REPLACE, &err),
                     WA_OK);
    struct timespec times[2] = {{time(NULL) - age, 0}, {time(NULL) - age, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool
is_there(const fixture *f, const char *name)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, name);
    return wa_path_exists(path);
}

/* ---- crashes ---- */

#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
/* A child that dies at the point while it puts. */
static void
die_while_putting(const fixture *f, const char *point, const char *key, const char *meta)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setenv("WALAGENT_CRASH_POINT", point, 1);
        _exit(put(f->store, key, "of the dead", meta, WA_PUT_CREATE) == WA_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void
a_writer_that_dies_before_the_object_has_its_name_leaves_nothing_that_counts(void **state)
{
    fixture *f = *state;
    static const char *const points[] = {"store-file-before-names", "store-file-between-names"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(points); i++) {
        die_while_putting(f, points[i], "wal/a", "{\"dead\":1}");
        assert_int_equal(count_objects(f->store), 0);
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_store_head(f->store, "wal/a", NULL, NULL, NULL, &err), WA_NOT_FOUND);
        assert_int_equal(put(f->store, "wal/a", "alive", "{\"alive\":1}", WA_PUT_CREATE), WA_OK);
        assert_object(f->store, "wal/a", "alive", "{\"alive\":1}");
        assert_int_equal(delete_one(f->store, "wal/a"), WA_OK);
    }
}

static void
facts_of_a_dead_writer_do_not_stick_to_an_object_without_facts(void **state)
{
    fixture *f = *state;
    die_while_putting(f, "store-file-between-names", "a", "{\"dead\":1}");
    assert_true(is_there(f, "a.meta"));
    assert_int_equal(put(f->store, "a", "alive", NULL, WA_PUT_CREATE), WA_OK);
    assert_object(f->store, "a", "alive", "");
}

static void
a_writer_that_dies_after_the_names_leaves_a_whole_object(void **state)
{
    fixture *f = *state;
    die_while_putting(f, "store-file-before-directory-sync", "a", "{\"dead\":1}");
    assert_object(f->store, "a", "of the dead", "{\"dead\":1}");
    assert_int_equal(put(f->store, "a", "second", NULL, WA_PUT_CREATE), WA_EXISTS);
}
#endif

static void
facts_of_a_live_writer_are_waited_for_until_the_budget_is_spent(void **state)
{
    fixture *f = *state;
    plant(f, "a.meta", "{\"live\":1}", 0);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(f->dir, "a.meta");
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    WA_CLEANUP(wa_store_freep) wa_store *impatient = open_at(f->dir, 20);
    assert_int_equal(put(impatient, "a", "x", "{\"n\":2}", WA_PUT_CREATE), WA_UNAVAILABLE);
    assert_int_equal(count_objects(impatient), 0);
    wa_closep(&fd);
    assert_int_equal(put(impatient, "a", "x", "{\"n\":2}", WA_PUT_CREATE), WA_OK);
    assert_object(impatient, "a", "x", "{\"n\":2}");
}

/* ---- races ---- */

static void
of_many_processes_one_creates(void **state)
{
    enum { PROCESSES = 6, ROUNDS = 10 };
    fixture *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[PROCESSES];
        char key[32];
        (void)snprintf(key, sizeof key, "r%d/x", round);
        for (int i = 0; i < PROCESSES; i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0) {
                char content[16], meta[32];
                (void)snprintf(content, sizeof content, "%d", i);
                (void)snprintf(meta, sizeof meta, "{\"w\":%d}", i);
                wa_status status =
                    put(f->store, key, content, round % 2 ? NULL : meta, WA_PUT_CREATE);
                _exit(status == WA_OK ? 0 : status == WA_EXISTS ? 1 : 2);
            }
        }
        int won = 0, winner = -1;
        for (int i = 0; i < PROCESSES; i++) {
            int status = 0;
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
            if (WEXITSTATUS(status) == 0) {
                won++;
                winner = i;
            }
        }
        assert_int_equal(won, 1);
        char content[16], meta[32];
        (void)snprintf(content, sizeof content, "%d", winner);
        (void)snprintf(meta, sizeof meta, "{\"w\":%d}", winner);
        assert_object(f->store, key, content, round % 2 ? "" : meta);
    }
}

typedef struct hammer {
    pthread_t thread;
    wa_store *store;
    unsigned seed;
    unsigned unexpected;
} hammer;

/* Create and delete a few keys in shared directories that come and go. */
static void *
create_and_delete(void *arg)
{
    hammer *h = arg;
    for (unsigned i = 0; i < 150; i++) {
        char key[32];
        h->seed = h->seed * 1103515245u + 12345u;
        (void)snprintf(key, sizeof key, "d/%u/x%u", h->seed >> 20 & 1, h->seed >> 24 & 1);
        wa_status status = h->seed >> 28 & 1 ? delete_one(h->store, key)
                                             : put(h->store, key, "x", "{\"x\":1}", WA_PUT_CREATE);
        if (status != WA_OK && status != WA_EXISTS)
            h->unexpected++;
    }
    return NULL;
}

static void
creators_and_deleters_do_not_disturb_each_other(void **state)
{
    fixture *f = *state;
    hammer hammers[4];
    wa_error err = WA_ERROR_INIT;
    for (unsigned i = 0; i < WA_ARRAY_SIZE(hammers); i++) {
        hammers[i] = (hammer){0, f->store, i + 1, 0};
        assert_int_equal(
            wa_thread_start(&hammers[i].thread, "hammer", create_and_delete, &hammers[i], &err),
            WA_OK);
    }
    for (unsigned i = 0; i < WA_ARRAY_SIZE(hammers); i++) {
        wa_thread_join(hammers[i].thread);
        assert_int_equal(hammers[i].unexpected, 0);
    }
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    list(f->store, &(wa_list_options){.prefix = ""}, &keys);
    for (size_t i = 0; i < keys.count; i++)
        assert_object(f->store, keys.items[i], "x", "{\"x\":1}");
    assert_int_equal(wa_store_delete(f->store, &keys, &err), WA_OK);
    (void)delete_one(f->store, "d/0/x0"); /* a directory that a racing rmdir left */
    (void)delete_one(f->store, "d/1/x0");
    assert_true(wa_dir_is_empty(f->dir));
}

/* ---- reading ---- */

static void
a_missing_root_directory_is_unavailable_not_not_found(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *below = wa_path_join(f->dir, "not/mounted");
    WA_CLEANUP(wa_store_freep) wa_store *store = open_at(below, 0);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(10);
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_store_get(store, "a", 0, 1, &got, NULL, &err), WA_UNAVAILABLE);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(wa_store_head(store, "a", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
    wa_list_options all = {.prefix = ""};
    assert_int_equal(wa_store_list(store, &all, append_key, &keys, &err), WA_UNAVAILABLE);
    assert_int_equal(delete_one(store, "a"), WA_UNAVAILABLE);
    bool conditional = false;
    assert_int_equal(wa_store_probe(store, "", &conditional, &err), WA_OK);
    assert_true(conditional);
    assert_int_equal(wa_store_head(store, "a", NULL, NULL, NULL, &err), WA_NOT_FOUND);
}

/* Moves the store's directory away and leaves an empty one at its place, as umount does. */
static void
unmount(const fixture *f, const char *away)
{
    assert_int_equal(rename(f->dir, away), 0);
    assert_int_equal(mkdir(f->dir, 0700), 0);
}

static void
mount_again(const fixture *f, const char *away)
{
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(wa_remove_tree(f->dir, &err), WA_OK);
    assert_int_equal(rename(away, f->dir), 0);
}

static void
assert_every_call_is_unavailable(wa_store *store)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(10);
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(store, "w/new", "x", "{}", WA_PUT_CREATE), WA_UNAVAILABLE);
    assert_int_equal(put(store, "w/a", "x", "{}", WA_PUT_REPLACE), WA_UNAVAILABLE);
    assert_int_equal(wa_upload_begin(store, "u", NULL, 4, &u, &err), WA_UNAVAILABLE);
    assert_int_equal(delete_one(store, "w/a"), WA_UNAVAILABLE);
    assert_int_equal(wa_store_get(store, "w/a", 0, 1, &got, NULL, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_store_head(store, "w/a", NULL, NULL, NULL, &err), WA_UNAVAILABLE);
    assert_true(err.hint[0] != '\0');
    wa_list_options all = {.prefix = ""};
    assert_int_equal(wa_store_list(store, &all, append_key, &keys, &err), WA_UNAVAILABLE);
    assert_int_equal(wa_store_abort_uploads(store, "", wa_time_now(), NULL, &err), WA_UNAVAILABLE);
}

static void
nothing_is_written_into_the_directory_below_a_file_system_that_went_away(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *away = wa_format("%s-away", f->dir);
    assert_int_equal(put(f->store, "w/a", "x", "{}", WA_PUT_CREATE), WA_OK);
    unmount(f, away);
    assert_every_call_is_unavailable(f->store);
    assert_true(wa_dir_is_empty(f->dir));
    mount_again(f, away);
    assert_object(f->store, "w/a", "x", "{}");
    assert_int_equal(put(f->store, "w/b", "x", "{}", WA_PUT_CREATE), WA_OK);
}

static void
a_root_that_was_there_once_is_not_made_again(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *away = wa_format("%s-away", f->dir);
    assert_int_equal(put(f->store, "w/a", "x", "{}", WA_PUT_CREATE), WA_OK);
    WA_CLEANUP(wa_store_freep) wa_store *reader = open_at(f->dir, 0);
    assert_object(reader, "w/a", "x", "{}");
    assert_int_equal(rename(f->dir, away), 0);
    assert_every_call_is_unavailable(f->store);
    assert_every_call_is_unavailable(reader);
    assert_false(wa_path_exists(f->dir));
    assert_int_equal(rename(away, f->dir), 0);
}

/* Whole blocks go past the page cache, what is behind them or lies askew in memory does not. */
static void
parts_are_written_as_they_are_wherever_they_lie(void **state)
{
    enum { BLOCK = 4096, PART = 5 * BLOCK, COUNT = 6 };
    static const size_t last[] = {1, BLOCK - 1, BLOCK, BLOCK + 1, PART - 1, PART};
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *memory = aligned_alloc(BLOCK, (COUNT + 1) * PART);
    for (size_t i = 0; i < (COUNT + 1) * PART; i++)
        memory[i] = (char)(i * 2654435761u >> 13);
    for (size_t skew = 0; skew < 3; skew++) {
        for (size_t k = 0; k < WA_ARRAY_SIZE(last); k++) {
            const char *data = memory + skew;
            WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
            WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(COUNT * PART);
            assert_int_equal(wa_upload_begin(f->store, "u", NULL, PART, &u, &err), WA_OK);
            for (unsigned n = COUNT; n > 0; n--) /* in any order */
                assert_int_equal(
                    wa_upload_part(u, n, data + (n - 1) * PART, n == COUNT ? last[k] : PART, &err),
                    WA_OK);
            assert_int_equal(wa_upload_commit(u, &err), WA_OK);
            assert_int_equal(wa_store_get(f->store, "u", 0, UINT64_MAX, &got, NULL, &err), WA_OK);
            assert_int_equal(got.len, (COUNT - 1) * PART + last[k]);
            assert_memory_equal(got.data, data, got.len);
        }
    }
}

static void
an_upload_is_not_committed_after_the_file_system_went_away(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *away = wa_format("%s-away", f->dir);
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(f->store, "a", "x", NULL, WA_PUT_CREATE), WA_OK);
    assert_int_equal(wa_upload_begin(f->store, "u", NULL, 4, &u, &err), WA_OK);
    assert_int_equal(wa_upload_part(u, 1, "ab", 2, &err), WA_OK);
    unmount(f, away);
    assert_int_equal(wa_upload_commit(u, &err), WA_UNAVAILABLE);
    assert_true(wa_dir_is_empty(f->dir));
    mount_again(f, away);
    assert_int_equal(wa_upload_commit(u, &err), WA_OK);
    assert_object(f->store, "u", "ab", "");
}

static void
a_file_system_mounted_after_the_store_was_opened_is_taken(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *mount_point = wa_path_join(f->dir, "mnt");
    WA_CLEANUP(wa_freep) char *other = wa_path_join(f->dir, "other");
    WA_CLEANUP(wa_freep) char *away = wa_path_join(f->dir, "away");
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(mkdir(mount_point, 0700), 0);
    WA_CLEANUP(wa_store_freep) wa_store *early = open_at(mount_point, 0);
    assert_int_equal(wa_store_head(early, "a", NULL, NULL, NULL, &err), WA_NOT_FOUND);
    WA_CLEANUP(wa_store_freep) wa_store *writer = open_at(other, 0);
    assert_int_equal(put(writer, "a", "x", NULL, WA_PUT_CREATE), WA_OK);
    assert_int_equal(rename(mount_point, away), 0);
    assert_int_equal(rename(other, mount_point), 0);
    assert_object(early, "a", "x", "");
    assert_int_equal(put(early, "b", "x", NULL, WA_PUT_CREATE), WA_OK);
}

/* A device number may change between two mounts; here the directory's inode does. */
static void
a_root_that_comes_back_as_another_device_is_known_by_what_was_read_from_it(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) char *away = wa_format("%s-away", f->dir);
    WA_CLEANUP(wa_freep) char *old = wa_path_join(away, "w");
    WA_CLEANUP(wa_freep) char *new = wa_path_join(f->dir, "w");
    wa_error err = WA_ERROR_INIT;
    assert_int_equal(put(f->store, "w/a", "x", "{}", WA_PUT_CREATE), WA_OK);
    assert_object(f->store, "w/a", "x", "{}");
    unmount(f, away);
    assert_every_call_is_unavailable(f->store);
    plant(f, "w/a", "x", 0); /* the same name and content is not enough */
    plant(f, "w/a.meta", "{}", 0);
    assert_int_equal(put(f->store, "w/b", "x", "{}", WA_PUT_CREATE), WA_UNAVAILABLE);
    assert_int_equal(wa_remove_tree(new, &err), WA_OK);
    assert_int_equal(rename(old, new), 0);
    assert_int_equal(put(f->store, "w/b", "x", "{}", WA_PUT_CREATE), WA_OK);
    assert_int_equal(rmdir(away), 0);
}

static void
listings_skip_what_is_no_object(void **state)
{
    fixture *f = *state;
    plant(f, "d/.tmp-0123456789abcdef-x", "x", 0);
    plant(f, "d/orphan.meta", "{}", 0);
    plant(f, "lost+found/x", "x", 0);
    plant(f, ".snapshot/x", "x", 0);
    plant(f, "only-left-overs/.tmp-0123456789abcdef-x", "x", 0);
    WA_CLEANUP(wa_freep) char *fifo = wa_path_join(f->dir, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(put(f->store, "d/real", "x", "{}", WA_PUT_CREATE), WA_OK);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    list(f->store, &(wa_list_options){.prefix = ""}, &keys);
    list(f->store, &(wa_list_options){.prefix = "", .delimited = true}, &keys);
    assert_int_equal(keys.count, 2);
    assert_string_equal(keys.items[0], "d/real");
    assert_string_equal(keys.items[1], "d/");
}

/* A short random key; few letters, so that prefixes, directories and neighbours collide. */
static void
random_key(unsigned *seed, char *out, bool whole)
{
    static const char letters[] = "ab-.0/";
    size_t len = 1 + (unsigned)rand_r(seed) % 8;
    do {
        for (size_t i = 0; i < len; i++)
            out[i] = letters[(unsigned)rand_r(seed) % (sizeof letters - 1)];
        out[len] = '\0';
    } while (strstr(out, "//") != NULL || strstr(out, "/.") != NULL || out[0] == '/' ||
             out[0] == '.' || (whole && out[len - 1] == '/'));
}

static void
listings_agree_with_those_of_the_store_in_memory(void **state)
{
    fixture *f = *state;
    unsigned seed = getenv("WALAGENT_SEED") != NULL
                        ? (unsigned)strtoul(getenv("WALAGENT_SEED"), NULL, 10)
                        : (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    WA_CLEANUP(wa_store_freep) wa_store *mem = wa_store_mem_new();
    char key[16], after[16];
    for (int i = 0; i < 150; i++) {
        random_key(&seed, key, true);
        /* "a" and "a/b" exclude each other on file:// only. */
        if (put(f->store, key, "x", i % 3 ? NULL : "{}", WA_PUT_REPLACE) == WA_OK)
            assert_int_equal(put(mem, key, "x", NULL, WA_PUT_REPLACE), WA_OK);
    }
    assert_true(count_objects(mem) > 10);
    for (int i = 0; i < 400; i++) {
        key[0] = '\0';
        if (i % 4 != 0)
            random_key(&seed, key, false);
        random_key(&seed, after, false);
        wa_list_options options = {key, i % 2 == 0, i % 3 ? NULL : after, 0};
        WA_CLEANUP(wa_strv_done) wa_strv a = {0};
        WA_CLEANUP(wa_strv_done) wa_strv b = {0};
        list(f->store, &options, &a);
        list(mem, &options, &b);
        assert_int_equal(a.count, b.count);
        for (size_t n = 0; n < a.count; n++)
            assert_string_equal(a.items[n], b.items[n]);
    }
}

/* ---- left overs ---- */

static void
deleting_the_last_object_removes_its_directories(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f->store, "a/b/c/x", "x", "{}", WA_PUT_CREATE), WA_OK);
    assert_int_equal(put(f->store, "a/y", "x", NULL, WA_PUT_CREATE), WA_OK);
    assert_int_equal(delete_one(f->store, "a/b/c/x"), WA_OK);
    assert_false(is_there(f, "a/b"));
    assert_true(is_there(f, "a/y"));
    assert_int_equal(delete_one(f->store, "a/y"), WA_OK);
    assert_true(wa_dir_is_empty(f->dir));
    assert_true(wa_path_exists(f->dir));
}

static void
only_old_left_overs_under_the_prefix_are_removed(void **state)
{
    fixture *f = *state;
    plant(f, "b/.tmp-0123456789abcdef-pack-1", "old", 7200);
    plant(f, "b/.tmp-0123456789abcdee-pack-2", "young", 0);
    plant(f, "b/.tmp-0123456789abcded-other", "old", 7200);
    plant(f, "c/.tmp-0123456789abcdef-pack-1", "old", 7200);
    plant(f, "b/pack-8.meta", "{}", 7200);
    plant(f, "b/pack-9.meta", "{}", 7200);
    plant(f, "b/pack-9", "object", 7200);
    size_t count = 0;
    wa_error err = WA_ERROR_INIT;
    wa_time before = wa_time_now() - INT64_C(3600000000);
    assert_int_equal(wa_store_abort_uploads(f->store, "b/pack", before, &count, &err), WA_OK);
    assert_int_equal(count, 1);
    assert_false(is_there(f, "b/.tmp-0123456789abcdef-pack-1"));
    assert_true(is_there(f, "b/.tmp-0123456789abcdee-pack-2"));
    assert_true(is_there(f, "b/.tmp-0123456789abcded-other"));
    assert_true(is_there(f, "c/.tmp-0123456789abcdef-pack-1"));
    assert_false(is_there(f, "b/pack-8.meta"));
    assert_object(f->store, "b/pack-9", "object", "{}");
}

static void
a_failed_put_leaves_no_temporary_file(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f->store, "a", "x", "{}", WA_PUT_CREATE), WA_OK);
    assert_int_equal(put(f->store, "a", "y", "{}", WA_PUT_CREATE), WA_EXISTS);
    assert_int_equal(put(f->store, "a/b", "y", "{}", WA_PUT_CREATE), WA_INVALID);
    assert_int_equal(put(f->store, "d/e", "y", "{}", WA_PUT_CREATE), WA_OK);
    assert_int_equal(put(f->store, "d", "y", "{}", WA_PUT_CREATE), WA_INVALID);
    assert_int_equal(put(f->store, "d", "y", "{}", WA_PUT_REPLACE), WA_INVALID);
    assert_false(is_there(f, "d.meta"));
    size_t count = 7;
    wa_error err = WA_ERROR_INIT;
    wa_time future = wa_time_now() + 60000000;
    assert_int_equal(wa_store_abort_uploads(f->store, "", future, &count, &err), WA_OK);
    assert_int_equal(count, 0);
}

typedef struct other_writer {
    wa_store *store;
    bool fail;
} other_writer;

/* Somebody else is faster. */
static wa_status
write_the_same_key(void *arg, wa_error *err)
{
    const other_writer *w = arg;
    assert_int_equal(put(w->store, "wal/a", "other", "{\"other\":1}", WA_PUT_CREATE), WA_OK);
    return w->fail ? wa_error_set(err, WA_CANCELLED, "not now") : WA_OK;
}

static void
what_another_writes_before_it_is_ready_is_not_replaced(void **state)
{
    fixture *f = *state;
    wa_body body = {"mine", 4, -1, 0};
    for (int i = 0; i < 2; i++) {
        other_writer w = {f->store, i == 1};
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_store_put_when(f->store, "wal/a", &body, "{\"mine\":1}", WA_PUT_CREATE,
                                           write_the_same_key, &w, &err),
                         w.fail ? WA_CANCELLED : WA_EXISTS);
        assert_object(f->store, "wal/a", "other", "{\"other\":1}");
        assert_int_equal(delete_one(f->store, "wal/a"), WA_OK);
        /* No temporary file is left, or the directory would be. */
        WA_CLEANUP(wa_freep) char *dir = wa_path_join(f->dir, "wal");
        assert_false(wa_path_exists(dir));
    }
}

static wa_status
never_ready(void *arg, wa_error *err)
{
    *(bool *)arg = true;
    (void)err;
    return WA_OK;
}

static void
what_was_opened_for_reading_alone_takes_nothing(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_body body = {.data = "x", .len = 1};
    WA_CLEANUP(wa_upload_freep) wa_upload *upload = NULL;
    bool asked = false;
    assert_int_equal(wa_store_put(f->store, "a", &body, "{\"n\":1}", WA_PUT_CREATE, &err), WA_OK);
    wa_store_make_read_only(f->store);
    assert_int_equal(wa_store_put(f->store, "b", &body, NULL, WA_PUT_CREATE, &err), WA_DENIED);
    assert_int_equal(
        wa_store_put_when(f->store, "b", &body, NULL, WA_PUT_CREATE, never_ready, &asked, &err),
        WA_DENIED);
    assert_false(asked);
    assert_int_equal(wa_upload_begin(f->store, "b", NULL, 4, &upload, &err), WA_DENIED);
    assert_int_equal(delete_one(f->store, "a"), WA_DENIED);
    assert_object(f->store, "a", "x", "{\"n\":1}");
    assert_int_equal(wa_store_head(f->store, "b", NULL, NULL, NULL, &err), WA_NOT_FOUND);
}

static void
an_upload_with_a_hole_is_not_committed(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    assert_int_equal(wa_upload_begin(f->store, "u", NULL, 4, &u, &err), WA_OK);
    assert_int_equal(wa_upload_commit(u, &err), WA_INVALID);
    assert_int_equal(wa_upload_part(u, 1, "abcd", 4, &err), WA_OK);
    assert_int_equal(wa_upload_part(u, 3, "ij", 2, &err), WA_OK);
    assert_int_equal(wa_upload_commit(u, &err), WA_INVALID);
    assert_int_equal(wa_upload_part(u, 2, "efg", 3, &err), WA_OK);
    assert_int_equal(wa_upload_commit(u, &err), WA_INVALID);
    assert_int_equal(wa_upload_part(u, 2, "efghx", 5, &err), WA_INVALID);
    assert_int_equal(wa_upload_part(u, 0, "x", 1, &err), WA_INVALID);
    assert_int_equal(wa_upload_part(u, 2, "efgh", 4, &err), WA_OK);
    assert_int_equal(count_objects(f->store), 0);
    assert_int_equal(wa_upload_commit(u, &err), WA_OK);
    assert_object(f->store, "u", "abcdefghij", "");
}

/* ---- the system refuses ---- */

/* Runs in a child with its own mounts: 0 as expected, 77 not possible here. */
static int
fill_small_file_system(const char *dir)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=256k") != 0)
        return NOT_PERMITTED_HERE;
    WA_CLEANUP(wa_store_freep) wa_store *store = open_at(dir, 0);
    WA_CLEANUP(wa_freep) char *large = wa_calloc(1, 1 << 20);
    wa_body body = {large, 1 << 20, -1, 0};
    wa_error err = WA_ERROR_INIT;
    if (wa_store_put(store, "large", &body, "{}", WA_PUT_CREATE, &err) != WA_NO_SPACE)
        return 1;
    if (strstr(err.message, "large") == NULL || strstr(err.hint, "free space") == NULL)
        return 2;
    if (put(store, "small", "x", "{}", WA_PUT_CREATE) != WA_OK)
        return 3;
    return count_objects(store) == 1 ? 0 : 4;
}

static void
a_full_file_system_is_no_space_and_leaves_nothing(void **state)
{
    fixture *f = *state;
    assert_child(in_a_child(fill_small_file_system, f->dir));
}

static int
write_as_nobody(const char *dir)
{
    if (geteuid() == 0 && seteuid(65534) != 0)
        return NOT_PERMITTED_HERE;
    WA_CLEANUP(wa_store_freep) wa_store *store = open_at(dir, 0);
    wa_body body = {"x", 1, -1, 0};
    wa_error err = WA_ERROR_INIT;
    if (wa_store_put(store, "d/a", &body, NULL, WA_PUT_CREATE, &err) != WA_DENIED)
        return 1;
    return strstr(err.hint, "User \"") != NULL ? 0 : 2;
}

static void
a_directory_without_permission_is_denied_and_the_hint_names_the_user(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f->store, "d/b", "x", NULL, WA_PUT_CREATE), WA_OK);
    assert_int_equal(chmod(f->dir, 0555), 0);
    WA_CLEANUP(wa_freep) char *below = wa_path_join(f->dir, "d");
    assert_int_equal(chmod(below, 0555), 0);
    int code = in_a_child(write_as_nobody, f->dir);
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(below, 0755), 0);
    assert_child(code);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
        TEST(a_writer_that_dies_before_the_object_has_its_name_leaves_nothing_that_counts),
        TEST(facts_of_a_dead_writer_do_not_stick_to_an_object_without_facts),
        TEST(a_writer_that_dies_after_the_names_leaves_a_whole_object),
#endif
        TEST(facts_of_a_live_writer_are_waited_for_until_the_budget_is_spent),
        TEST(of_many_processes_one_creates),
        TEST(creators_and_deleters_do_not_disturb_each_other),
        TEST(a_missing_root_directory_is_unavailable_not_not_found),
        TEST(nothing_is_written_into_the_directory_below_a_file_system_that_went_away),
        TEST(a_root_that_was_there_once_is_not_made_again),
        TEST(parts_are_written_as_they_are_wherever_they_lie),
        TEST(an_upload_is_not_committed_after_the_file_system_went_away),
        TEST(a_file_system_mounted_after_the_store_was_opened_is_taken),
        TEST(a_root_that_comes_back_as_another_device_is_known_by_what_was_read_from_it),
        TEST(listings_skip_what_is_no_object),
        TEST(listings_agree_with_those_of_the_store_in_memory),
        TEST(deleting_the_last_object_removes_its_directories),
        TEST(only_old_left_overs_under_the_prefix_are_removed),
        TEST(a_failed_put_leaves_no_temporary_file),
        TEST(what_another_writes_before_it_is_ready_is_not_replaced),
        TEST(what_was_opened_for_reading_alone_takes_nothing),
        TEST(an_upload_with_a_hole_is_not_committed),
        TEST(a_full_file_system_is_no_space_and_leaves_nothing),
        TEST(a_directory_without_permission_is_denied_and_the_hint_names_the_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
