/*
 * test_hook_push.c - archive-push through the agent's socket: what is answered from memory, and
 * when the archive is asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../wal/hook_fixture.h"
#include "wall_clock.h"

#include "walagent/agent/hook_server.h"
#include "walagent/base/hook.h"

#define SEG3 "000000010000000000000003"
#define SEG4 "000000010000000000000004"
#define TIMEOUT_MS 60000

typedef struct hooks {
    fixture *f;
    wa_hook_server *server;
    char *socket_path;
    wal_builder *wal; /* segments 3 and 4 */
    bool streamed;    /* and archived by the streamer */
} hooks;

static wa_repo *
repo(void *arg, char *reason, size_t reason_size)
{
    (void)reason;
    (void)reason_size;
    return ((hooks *)arg)->f->repo;
}

static wa_status
open_repo(void *arg, wa_cancel *cancel, wa_repo **ret, wa_error *err)
{
    (void)arg;
    (void)cancel;
    return wa_repo_of_store(wa_store_mem_new(), "main", 1, ret, err);
}

static const uint8_t *
segment(const hooks *h, wa_segno segno)
{
    return wal_bytes(h->wal) + (segno - 3) * SEGMENT;
}

static bool
knows(void *arg, const char *name, char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    const hooks *h = arg;
    wa_xxh_of(segment(h, strcmp(name, SEG4) == 0 ? 4 : 3), SEGMENT, ret_xxh3);
    *ret_branch = h->f->first;
    return h->streamed;
}

static wa_ships
ships(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return WA_SHIPS_NOT;
}

static void
limits(void *arg, wa_hook_limits *ret)
{
    (void)arg;
    *ret = (wa_hook_limits){.stop_on_damage = false};
}

static void
put_segment(hooks *h, const char *name, wa_segno segno)
{
    WA_CLEANUP(wa_freep) char *path = put_file(h->f, name, segment(h, segno), SEGMENT);
}

static void
begin(hooks *h, fixture *f, bool streamed)
{
    wa_error err = WA_ERROR_INIT;
    *h = (hooks){.f = f, .streamed = streamed};
    h->socket_path = wa_path_join(f->dir, "socket");
    h->wal = full_segment(700);
    wal_fill_segment(h->wal);
    WA_CLEANUP(wa_freep) char *status = wa_path_join(f->wal_dir, "archive_status");
    OK(wa_mkdir_p(status, 0700, &err));
    put_segment(h, SEG3, 3);
    put_segment(h, SEG4, 4);
    for (wa_segno segno = 3; streamed && segno <= 4; segno++) {
        wa_put_outcome outcome;
        OK(wa_wal_put(f->repo, &f->first, segno, segment(h, segno), NULL, 1, NULL, true, &outcome,
                      &err));
    }
    wa_hook_server_options options = {.socket_path = h->socket_path,
                                      .arg = h,
                                      .repo = repo,
                                      .open_repo = open_repo,
                                      .knows = knows,
                                      .ships = ships,
                                      .limits = limits};
    OK(wa_hook_server_start(&options, &h->server, &err));
}

static void
end(hooks *h)
{
    wa_hook_server_stop(h->server, 0);
    wal_builder_free(h->wal);
    wa_freep(&h->socket_path);
}

/* As archive_status says it. */
static void
make_ready(hooks *h, const char *name)
{
    WA_CLEANUP(wa_freep) char *file = wa_format("archive_status/%s.ready", name);
    free(put_file(h->f, file, "", 0));
}

static void
ask(hooks *h, const char *name)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv request = {0};
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    WA_CLEANUP(wa_freep) char *path = wa_path_join(h->f->wal_dir, name);
    bool answered = false;
    wa_strv_add(&request, "archive-push");
    wa_strv_add(&request, path);
    OK(wa_hook_call(h->socket_path, &request, TIMEOUT_MS, &answered, &answer, &err));
}

static wa_status
lose(hooks *h, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(h->f->repo, &h->f->first, segno);
    wa_strv_add(&keys, key);
    return wa_store_delete(h->f->store, &keys, &err);
}

static bool
has(hooks *h, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_wal_info info;
    return wa_wal_head(h->f->repo, &h->f->first, segno, &info, &err) == WA_OK;
}

static void
the_server_is_answered_from_memory_once(void **state)
{
    wa_error err = WA_ERROR_INIT;
    hooks h;
    begin(&h, *state, true);
    make_ready(&h, SEG3);
    wa_store_fault_set(h.f->store, "any", 1, 1000, WA_FAULT_FAIL);
    ask(&h, SEG3);
    assert_int_equal(wa_store_fault_hits(h.f->store), 0); /* nobody was asked */
    wa_store_fault_set(h.f->store, "any", 0, 0, WA_FAULT_FAIL);
    uint64_t puts = wa_store_requests(h.f->store, "put");
    uint64_t heads = wa_store_requests(h.f->store, "head");
    ask(&h, SEG3); /* it crashed before it had noted the answer */
    assert_true(wa_store_requests(h.f->store, "head") == heads + 1);
    assert_true(wa_store_requests(h.f->store, "put") == puts);
    OK(lose(&h, 3));
    ask(&h, SEG3);
    assert_true(has(&h, 3));
    end(&h);
}

/* A person who was told that it is missing: archive_status knows nothing of it, or that it is done.
 */
static void
who_pushes_by_hand_is_answered_by_the_archive(void **state)
{
    wa_error err = WA_ERROR_INIT;
    hooks h;
    begin(&h, *state, true);
    for (wa_segno segno = 3; segno <= 4; segno++) {
        OK(lose(&h, segno));
        ask(&h, segno == 3 ? SEG3 : SEG4);
        assert_true(has(&h, segno));
    }
    end(&h);
}

/* Whether or not the file was at rest for long enough to be known by its times. */
static void
what_was_archived_ahead_is_answered_from_memory_once_too(void **state)
{
    for (wall_clock_step = 0; wall_clock_step < 2; wall_clock_step++) {
        wa_error err = WA_ERROR_INIT;
        hooks h;
        begin(&h, *state, false);
        make_ready(&h, SEG3);
        make_ready(&h, SEG4);
        ask(&h, SEG3);
        ask(&h, SEG4); /* which was on its way, or is there */
        assert_true(has(&h, 3) && has(&h, 4));
        OK(lose(&h, 4));
        ask(&h, SEG4);
        assert_true(has(&h, 4));
        OK(lose(&h, 3));
        OK(lose(&h, 4));
        end(&h);
    }
    wall_clock_step = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_server_is_answered_from_memory_once),
        TEST(who_pushes_by_hand_is_answered_by_the_archive),
        TEST(what_was_archived_ahead_is_answered_from_memory_once_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
