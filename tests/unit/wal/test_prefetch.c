/*
 * test_prefetch.c - what is fetched ahead of a server in recovery, and when it goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"
#include "page_cache.h"
#include "prefetch_internal.h"

#include "walagent/base/socket.h"

#include <fcntl.h>

#define SEG3 "000000010000000000000003"
#define SEG4 "000000010000000000000004"
#define SEG5 "000000010000000000000005"
#define HISTORY "1\t0/340800\tno recovery target specified\n"
#define FORK 0x340800u

typedef struct prefetching {
    fixture *f;
    wa_prefetch_options options;
    wa_cancel cancel;
    pthread_t thread;
} prefetching;

static void *
prefetch_main(void *arg)
{
    prefetching *p = arg;
    wa_error err = WA_ERROR_INIT;
    OK(wa_prefetch_run(&p->options, &err));
    return NULL;
}

static void
prefetch_begin(prefetching *p, fixture *f, const char *after)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *signal = wa_path_join(f->dir, "standby.signal");
    OK(wa_file_write(signal, "", 0, 0600, WA_WRITE_REPLACE, &err));
    OK(wa_cancel_init(&p->cancel, &err));
    p->f = f;
    p->options = (wa_prefetch_options){.repo = f->repo,
                                       .data_dir = f->dir,
                                       .mode = WA_GET_STANDBY,
                                       .after = after,
                                       .max_bytes = 4 * SEGMENT,
                                       .idle_ms = WA_PREFETCH_IDLE_MS,
                                       .chain_ms = 100,
                                       .workers = 2,
                                       .cancel = &p->cancel};
    OK(wa_thread_start(&p->thread, "prefetch", prefetch_main, p, &err));
}

static void
prefetch_end(prefetching *p)
{
    wa_cancel_trigger(&p->cancel);
    wa_thread_join(p->thread);
    wa_cancel_done(&p->cancel);
}

/* Ends as soon as it is so; false when it never is. */
static bool
becomes(prefetching *p, const char *name, bool there)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetched_path(p->f->dir, name);
    wa_mono deadline = wa_mono_now() + 20000;
    while (wa_mono_left(deadline) > 0) {
        if (wa_path_exists(path) == there)
            return true;
        OK(wa_cancel_sleep(&p->cancel, 2, &err));
    }
    return false;
}

/* Segments 4 and 5 of timeline 1. */
static void
put_two(fixture *f)
{
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 4 * SEGMENT});
    wal_fill_segment(b);
    wal_fill_until(b, 5 * SEGMENT + 10000);
    wal_fill_segment(b);
    put_whole(f, &f->first, 4, wal_bytes(b));
    put_whole(f, &f->first, 5, wal_bytes(b) + SEGMENT);
    wal_builder_free(b);
}

static void
prefetched_segments_go_when_their_timeline_is_left_before_them(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    prefetching p;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_branch second = wa_branch_of(SYSTEM, 2, HISTORY, strlen(HISTORY), "record", 6);
    put_two(f);
    prefetch_begin(&p, f, SEG3);
    assert_true(becomes(&p, SEG4, true));
    /* Another writer takes over: the number moves, the chain stays, and so does the file. */
    OK(wa_lineage_load(f->repo, &l, &err));
    l->epoch++;
    OK(wa_lineage_store(f->repo, l, &err));
    /* The next timeline begins before it. */
    wa_lineage_append(l, &second, FORK);
    OK(wa_lineage_store(f->repo, l, &err));
    assert_true(becomes(&p, SEG4, false));
    prefetch_end(&p);
}

static void
prefetched_segments_go_when_the_archive_no_longer_tells_the_chain(void **state)
{
    fixture *f = *state;
    prefetching p;
    put_two(f);
    prefetch_begin(&p, f, SEG3);
    assert_true(becomes(&p, SEG5, true));
    wa_store_fault_set(f->store, "any", 1, 1u << 20, WA_FAULT_FAIL);
    assert_true(becomes(&p, SEG5, false));
    wa_store_fault_set(f->store, "any", 0, 0, WA_FAULT_FAIL);
    assert_true(becomes(&p, SEG5, true));
    prefetch_end(&p);
}

/* A restore began again under the same name, and its own prefetcher runs there. */
static void
a_prefetcher_leaves_a_directory_alone_that_was_made_anew(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    prefetching p;
    WA_CLEANUP(wa_freep) char *dir = wa_path_join(f->dir, WA_HOOK_DIR);
    WA_CLEANUP(wa_freep) char *gone = wa_path_join(f->dir, "gone");
    WA_CLEANUP(wa_freep) char *socket = wa_hook_prefetch_socket(f->dir);
    WA_CLEANUP(wa_freep) char *file = wa_hook_prefetched_path(f->dir, SEG5);
    put_two(f);
    prefetch_begin(&p, f, SEG3);
    assert_true(becomes(&p, SEG5, true));
    assert_int_equal(rename(dir, gone), 0);
    OK(wa_mkdir_p(dir, 0700, &err));
    OK(wa_file_write(socket, "", 0, 0600, WA_WRITE_REPLACE, &err));
    OK(wa_file_write(file, "another's", 9, 0600, WA_WRITE_REPLACE, &err));
    prefetch_end(&p);
    assert_true(wa_path_exists(socket));
    assert_true(wa_path_exists(file));
}

static void
tell_taken(prefetching *p, const char *name)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetch_socket(p->f->dir);
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    wa_strv_add(&message, "taken");
    wa_strv_add(&message, name);
    wa_mono deadline = wa_mono_now() + 20000; /* it may not listen yet */
    while (wa_socket_connect(path, 0, &fd, &err) != WA_OK && wa_mono_left(deadline) > 0) {
        wa_error_clear(&err);
        OK(wa_cancel_sleep(&p->cancel, 2, &err));
    }
    OK(wa_socket_send(fd, &message, &err));
}

/* pg_wal/<segno>, on the disk and in the page cache. */
static int
restored_segment(fixture *f, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    char name[WA_SEGMENT_NAME];
    wa_segment_name(1, segno, SEGMENT, name);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_calloc(1, SEGMENT);
    WA_CLEANUP(wa_freep) char *path = put_file(f, name, bytes, SEGMENT);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    OK(wa_fsync(fd, path, &err));
    return fd;
}

static void
take(prefetching *p, wa_segno first, wa_segno last)
{
    for (wa_segno segno = first; segno <= last; segno++) {
        char name[WA_SEGMENT_NAME];
        wa_segment_name(1, segno, SEGMENT, name);
        tell_taken(p, name);
    }
}

/* The server takes these, again if a message got lost, until the page cache has lost fd's file. */
static bool
leaves_the_cache(prefetching *p, int fd, wa_segno first, wa_segno last)
{
    wa_error err = WA_ERROR_INIT;
    wa_mono deadline = wa_mono_now() + 60000;
    while (wa_mono_left(deadline) > 0) {
        take(p, first, last);
        for (int look = 0; look < 100; look++) {
            if (pages_in_cache(fd, SEGMENT) == 0)
                return true;
            OK(wa_cancel_sleep(&p->cancel, 2, &err));
        }
    }
    return false;
}

static void
what_was_replayed_leaves_the_page_cache_but_for_the_last_four(void **state)
{
    enum { FIRST = 3, LAST = 9, JUMP = 20 };
    fixture *f = *state;
    prefetching p;
    int fds[LAST + 1], behind;
    if (!page_cache_lets_go(f->dir)) {
        print_message("skipped: this file system keeps what it was told to let go\n");
        skip();
    }
    for (wa_segno segno = FIRST; segno <= LAST; segno++)
        fds[segno] = restored_segment(f, segno);
    behind = restored_segment(f, JUMP + 1);
    prefetch_begin(&p, f, SEG3);
    bool left =
        leaves_the_cache(&p, fds[4], FIRST, LAST) && leaves_the_cache(&p, fds[5], FIRST, LAST);
    /* It begins anew somewhere else: by then it has done with these. */
    left = left && leaves_the_cache(&p, behind, JUMP, JUMP + 5);
    prefetch_end(&p);
    assert_true(left);
    for (wa_segno segno = FIRST; segno <= LAST; segno++)
        assert_true((pages_in_cache(fds[segno], SEGMENT) > 0) == (segno != 4 && segno != 5));
    for (wa_segno segno = FIRST; segno <= LAST; segno++)
        close(fds[segno]);
    close(behind);
}

static void
a_directory_is_fetched_from_by_no_more_than_can_run(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s/repo", f->dir);
    wa_store_options options = {.url = url};
    wa_store *store = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    OK(wa_store_open(&options, &store, &err));
    OK(wa_repo_of_store(store, "main", 1, &repo, &err));
    size_t most = wa_prefetch_workers(f->repo); /* another kind of store */
    assert_int_equal(most, 4);
    assert_int_equal(wa_prefetch_workers(repo), wa_processors() < most ? wa_processors() : most);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(prefetched_segments_go_when_their_timeline_is_left_before_them),
        TEST(prefetched_segments_go_when_the_archive_no_longer_tells_the_chain),
        TEST(a_prefetcher_leaves_a_directory_alone_that_was_made_anew),
        TEST(what_was_replayed_leaves_the_page_cache_but_for_the_last_four),
        TEST(a_directory_is_fetched_from_by_no_more_than_can_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
