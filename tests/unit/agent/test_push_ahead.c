/*
 * test_push_ahead.c - what is archived ahead, in which order, and what is left behind a failure;
 * look-ups end when nobody waits for them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../wal/hook_fixture.h"
#include "lookup_internal.h"
#include "push_ahead_internal.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define FIRST 3
#define SEGMENTS 9 /* 3 to 11; 3 is the one that was answered */
#define PATIENCE_MS 60000
#define INTRUDER_MS 200 /* whoever comes then, though he mustn't, is seen */

typedef struct ahead_fixture {
    fixture *f;
    wa_hook_server_options hooks;
    wa_cancel cancel;
    wa_pool *pool;
    wa_push_ahead *ahead;
    const char *streamed; /* the streamer's from here on */
    const char *past;     /* the streamer began behind this one */
    char *first_path;
} ahead_fixture;

/* The repository in a directory, which has drafts (below a fault driver, too). */
static int
drafts_setup(void **state)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT};
    wa_store *inner = NULL;
    bool created = false;
    fixture_setup(state);
    fixture *f = *state;
    wa_repo_free(f->repo);
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s/archive", f->dir);
    wa_store_options options = {.url = url};
    OK(wa_store_open(&options, &inner, &err));
    f->store = wa_store_fault_new(inner);
    OK(wa_repo_of_store(f->store, "main", 1, &f->repo, &err));
    OK(wa_repo_init(f->repo, &identity, false, &created, &err));
    OK(wa_repo_load(f->repo, &err));
    f->push.repo = f->get.repo = f->repo;
    return 0;
}

static void
skip_without_drafts(const fixture *f)
{
    WA_CLEANUP(wa_closep) int draft = wa_store_draft(f->store);
    if (draft >= 0)
        return;
    print_message("the file system of \"%s\" has no unnamed files (O_TMPFILE)\n", f->dir);
    skip();
}

static wa_ships
ships(void *arg, const char *name)
{
    const ahead_fixture *a = arg;
    if (a->past != NULL && strcmp(name, a->past) <= 0)
        return WA_SHIPS_PAST;
    return a->streamed != NULL && strcmp(name, a->streamed) >= 0 ? WA_SHIPS_SOON : WA_SHIPS_NOT;
}

static wa_status
open_repo(void *arg, wa_cancel *cancel, wa_repo **ret, wa_error *err)
{
    (void)arg;
    (void)cancel;
    return wa_repo_of_store(wa_store_mem_new(), "main", 1, ret, err);
}

static char *
name_of(wa_segno segno, char out[static WA_SEGMENT_NAME])
{
    wa_segment_name(1, segno, SEGMENT, out);
    return out;
}

static void
mark(fixture *f, const char *name, const char *state)
{
    WA_CLEANUP(wa_freep) char *file = wa_format("archive_status/%s.%s", name, state);
    free(put_file(f, file, "", 0));
}

static void
begin(ahead_fixture *a)
{
    wa_error err = WA_ERROR_INIT;
    char name[WA_SEGMENT_NAME];
    OK(wa_cancel_init(&a->cancel, &err));
    OK(wa_pool_new("work", 2, 4, &a->pool, &err));
    WA_CLEANUP(wa_freep) char *status = wa_path_join(a->f->wal_dir, "archive_status");
    OK(wa_mkdir_p(status, 0700, &err));
    a->hooks = (wa_hook_server_options){.arg = a, .ships = ships, .open_repo = open_repo};
    a->ahead = wa_push_ahead_new(
        &(wa_push_ahead_options){.hooks = &a->hooks, .pool = a->pool, .cancel = &a->cancel});
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = FIRST * SEGMENT});
    for (wa_segno i = 0; i < SEGMENTS; i++) {
        wal_add_commit(b, 700 + (uint32_t)i, 1000);
        wal_fill_segment(b);
        WA_CLEANUP(wa_freep)
        char *path = put_file(a->f, name_of(FIRST + i, name), wal_bytes(b) + i * SEGMENT, SEGMENT);
        mark(a->f, name, "ready");
        if (i == 0)
            a->first_path = WA_TAKE(path);
    }
    wal_builder_free(b);
}

static void
end(ahead_fixture *a)
{
    wa_push_ahead_free(a->ahead);
    wa_pool_free(a->pool);
    wa_cancel_done(&a->cancel);
    wa_freep(&a->first_path);
}

/* Until nothing is on its way. */
static void
join_all(ahead_fixture *a)
{
    char name[WA_SEGMENT_NAME];
    for (wa_segno i = 0; i < SEGMENTS; i++) {
        WA_CLEANUP(wa_freep)
        char *path = wa_path_join(a->f->wal_dir, name_of(FIRST + i, name));
        wa_push_ahead_join(a->ahead, path, &a->cancel);
    }
}

/* How many segments behind the first are archived; without a gap, and known exactly when they are.
 */
static size_t
archived(ahead_fixture *a)
{
    wa_error err = WA_ERROR_INIT;
    size_t count = 0;
    for (wa_segno i = 1; i < SEGMENTS; i++) {
        char name[WA_SEGMENT_NAME], xxh3[WA_XXH_HEX];
        wa_wal_info info = {0};
        wa_branch branch;
        wa_status status = wa_wal_head(a->f->repo, &a->f->first, FIRST + i, &info, &err);
        bool known =
            wa_push_ahead_knows(a->ahead, a->f->repo, name_of(FIRST + i, name), xxh3, &branch);
        assert_int_equal(known, status == WA_OK);
        if (status != WA_OK)
            continue;
        assert_int_equal(count, i - 1);
        assert_string_equal(xxh3, info.xxh3);
        assert_true(wa_branch_eq(&branch, &a->f->first));
        count++;
    }
    return count;
}

static void
fail_at_each_put(void **state, CMFixtureFunction setup)
{
    for (unsigned nth = 1;; nth++) {
        ahead_fixture a = {.f = *state};
        begin(&a);
        wa_store_fault_set(a.f->store, "put", nth, 1000, WA_FAULT_FAIL);
        wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
        join_all(&a);
        bool failed = wa_store_fault_hits(a.f->store) > 0;
        assert_int_equal(archived(&a), failed ? nth - 1 : SEGMENTS - 1);
        wa_store_fault_set(a.f->store, "put", 0, 0, WA_FAULT_FAIL);
        wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
        join_all(&a);
        assert_int_equal(archived(&a), SEGMENTS - 1);
        end(&a);
        if (!failed)
            return;
        fixture_teardown(state);
        setup(state);
    }
}

static void
a_failure_leaves_no_hole_and_the_next_push_begins_anew(void **state)
{
    fail_at_each_put(state, fixture_setup);
}

static void
a_failure_leaves_no_hole_behind_drafts_that_wait_either(void **state)
{
    fail_at_each_put(state, drafts_setup);
}

static void
what_the_streamer_ships_is_left_to_it(void **state)
{
    ahead_fixture a = {.f = *state, .streamed = "000000010000000000000006"};
    begin(&a);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 2);
    end(&a);
}

/* An agent that was started anew: some are there already, the others are nobody's. */
static void
what_lies_before_the_streamer_began_is_asked_for_and_archived(void **state)
{
    ahead_fixture a = {
        .f = *state, .past = "000000010000000000000007", .streamed = "000000010000000000000008"};
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    begin(&a);
    WA_CLEANUP(wa_freep) char *there = wa_path_join(a.f->wal_dir, "000000010000000000000005");
    OK(wa_push_file(&a.f->push, there, &result, &err));
    uint64_t puts = wa_store_requests(a.f->store, "put");
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 4);
    assert_true(wa_store_requests(a.f->store, "put") == puts + 3);
    end(&a);
}

/* While the first one waits for the store: each one that is begun asks it first. */
typedef struct others {
    wa_store *store;
    uint64_t expected, begun;
} others;

static void
await_others(void *arg)
{
    others *o = arg;
    wa_mono deadline = wa_mono_now() + PATIENCE_MS;
    while ((o->begun = wa_store_requests(o->store, "head")) < o->expected &&
           wa_mono_left(deadline) > 0)
        usleep(1000);
}

static void
others_are_read_while_the_first_one_waits_for_the_store(void **state)
{
    ahead_fixture a = {.f = *state, .past = "000000010000000000000010"};
    begin(&a);
    uint64_t before = wa_store_requests(a.f->store, "head");
    /* Three in all: this store has no drafts, and what waits is in memory. */
    others o = {.store = a.f->store, .expected = before + 3};
    wa_store_fault_before(a.f->store, "put", 1, await_others, &o);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_true(o.begun == o.expected);
    assert_int_equal(archived(&a), SEGMENTS - 1);
    end(&a);
}

static size_t
rooms(void)
{
    size_t two_each = 2 * wa_processors();
    return two_each < 4 ? two_each : 4;
}

/* What waits for its turn is in the store, and needs no room: three more than there are rooms. */
static void
with_drafts_more_are_begun_than_there_are_rooms_while_the_first_one_waits(void **state)
{
    ahead_fixture a = {.f = *state, .past = "000000010000000000000010"};
    skip_without_drafts(a.f);
    begin(&a);
    others o = {.store = a.f->store,
                .expected = wa_store_requests(a.f->store, "head") + rooms() + 3};
    wa_store_fault_before(a.f->store, "put", 1, await_others, &o);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_true(o.begun == o.expected);
    assert_int_equal(archived(&a), SEGMENTS - 1);
    end(&a);
}

/* Those who ask for a draft: first who looks whether there are any, then everybody who has got a
 * room and begins. The first of them wait for each other in there, and then for who mustn't come.
 */
typedef struct crowd {
    atomic_size_t calls, inside, most;
    atomic_bool full;
} crowd;

static void
enter(void *arg)
{
    crowd *c = arg;
    if (atomic_fetch_add(&c->calls, 1) == 0)
        return;
    size_t inside = atomic_fetch_add(&c->inside, 1) + 1, most = atomic_load(&c->most);
    while (inside > most && !atomic_compare_exchange_weak(&c->most, &most, inside))
        ;
    wa_mono deadline = wa_mono_now() + PATIENCE_MS;
    while (!atomic_load(&c->full) && atomic_load(&c->inside) < rooms() &&
           wa_mono_left(deadline) > 0)
        usleep(1000);
    if (!atomic_load(&c->full))
        usleep(INTRUDER_MS * 1000);
    atomic_store(&c->full, true);
    atomic_fetch_sub(&c->inside, 1);
}

static void
only_as_many_as_there_are_rooms_have_memory_at_a_time(void **state)
{
    ahead_fixture a = {.f = *state};
    crowd c = {0};
    skip_without_drafts(a.f);
    begin(&a);
    wa_store_fault_before_each(a.f->store, "draft", enter, &c);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(atomic_load(&c.most), rooms());
    assert_int_equal(archived(&a), SEGMENTS - 1);
    end(&a);
}

static void
count_call(void *arg)
{
    atomic_fetch_add((atomic_size_t *)arg, 1);
}

static void
whether_there_are_drafts_is_looked_at_once(void **state)
{
    ahead_fixture a = {.f = *state, .streamed = "000000010000000000000006"};
    atomic_size_t drafts = 0;
    begin(&a);
    wa_store_fault_before_each(a.f->store, "draft", count_call, &drafts);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 2);
    assert_int_equal(atomic_load(&drafts), 2 + 1);
    a.streamed = NULL;
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), SEGMENTS - 1);
    assert_int_equal(atomic_load(&drafts), SEGMENTS - 1 + 1);
    end(&a);
}

static void
nothing_runs_ahead_over_a_gap_or_past_an_older_file(void **state)
{
    ahead_fixture a = {.f = *state};
    begin(&a);
    mark(a.f, "000000010000000000000002", "ready");
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 0);
    WA_CLEANUP(wa_freep)
    char *older = wa_path_join(a.f->wal_dir, "archive_status/000000010000000000000002.ready");
    WA_CLEANUP(wa_freep)
    char *gap = wa_path_join(a.f->wal_dir, "archive_status/000000010000000000000006.ready");
    assert_int_equal(unlink(older), 0);
    assert_int_equal(unlink(gap), 0);
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 2);
    end(&a);
}

static void
what_needs_a_warning_is_left_to_the_call_that_gives_it(void **state)
{
    ahead_fixture a = {.f = *state};
    begin(&a);
    WA_CLEANUP(wa_freep) char *junk = wa_calloc(1, SEGMENT);
    free(put_file(a.f, "000000010000000000000005", junk, SEGMENT));
    wa_push_ahead_after(a.ahead, a.f->repo, a.first_path, false);
    join_all(&a);
    assert_int_equal(archived(&a), 1);
    end(&a);
}

static void
a_look_up_ends_when_its_peer_goes_away_or_its_time_is_up(void **state)
{
    ahead_fixture a = {.f = *state};
    wa_error err = WA_ERROR_INIT;
    wa_lookup *lookup = NULL;
    int pair[2];
    begin(&a);
    wa_lookups *lookups = wa_lookups_new(&a.hooks, &a.cancel);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    OK(wa_lookup_begin(lookups, a.f->repo, pair[0], UINT64_MAX, &lookup, &err));
    wa_repo *repo = wa_lookup_repo(lookup);
    assert_false(wa_cancelled(wa_lookup_cancel(lookup)));
    wa_lookup_end(lookup);
    OK(wa_lookup_begin(lookups, a.f->repo, pair[0], UINT64_MAX, &lookup, &err));
    assert_ptr_equal(wa_lookup_repo(lookup), repo); /* kept open */
    close(pair[1]);
    OK(wa_cancel_poll(NULL, wa_lookup_cancel(lookup)->fd, POLLIN, PATIENCE_MS, &err));
    wa_lookup_end(lookup);
    close(pair[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    OK(wa_lookup_begin(lookups, a.f->repo, pair[0], wa_mono_now(), &lookup, &err));
    OK(wa_cancel_poll(NULL, wa_lookup_cancel(lookup)->fd, POLLIN, PATIENCE_MS, &err));
    wa_lookup_end(lookup);
    OK(wa_lookup_begin(lookups, a.f->repo, pair[0], UINT64_MAX, &lookup, &err));
    assert_false(wa_cancelled(wa_lookup_cancel(lookup))); /* a cancelled one isn't taken again */
    wa_cancel_trigger(&a.cancel);
    OK(wa_cancel_poll(NULL, wa_lookup_cancel(lookup)->fd, POLLIN, PATIENCE_MS, &err));
    wa_lookup_end(lookup);
    wa_lookups_free(lookups);
    close(pair[0]);
    close(pair[1]);
    end(&a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define WITH_DRAFTS(name) cmocka_unit_test_setup_teardown(name, drafts_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_failure_leaves_no_hole_and_the_next_push_begins_anew),
        TEST(what_the_streamer_ships_is_left_to_it),
        TEST(what_lies_before_the_streamer_began_is_asked_for_and_archived),
        TEST(others_are_read_while_the_first_one_waits_for_the_store),
        WITH_DRAFTS(a_failure_leaves_no_hole_behind_drafts_that_wait_either),
        WITH_DRAFTS(with_drafts_more_are_begun_than_there_are_rooms_while_the_first_one_waits),
        WITH_DRAFTS(only_as_many_as_there_are_rooms_have_memory_at_a_time),
        WITH_DRAFTS(whether_there_are_drafts_is_looked_at_once),
        TEST(nothing_runs_ahead_over_a_gap_or_past_an_older_file),
        TEST(what_needs_a_warning_is_left_to_the_call_that_gives_it),
        TEST(a_look_up_ends_when_its_peer_goes_away_or_its_time_is_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
