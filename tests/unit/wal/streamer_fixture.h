/*
 * streamer_fixture.h - a streamer without a server: its repository is in the given store, its spool
 * in a directory that goes with it.
 */
#ifndef WALAGENT_TESTS_STREAMER_FIXTURE_H
#define WALAGENT_TESTS_STREAMER_FIXTURE_H

#include "streamer_internal.h"

#include "walagent/base/file.h"
#include "walagent/store/drivers.h"

#include <stdio.h>
#include <stdlib.h>

#define SEGMENT (1024u * 1024)
#define SYSTEM UINT64_C(7000000000000000001)

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != WA_OK)                                                                       \
            fail_msg("%s: %s", #call, (f)->err.message);                                           \
    } while (0)

/* dir: room for 64 characters. Takes the store. Without a spool nothing is received. */
static inline void
begin_streamer(char *dir, wa_store *store, bool spool, wa_repo **ret_repo, wa_streamer **ret)
{
    struct {
        wa_error err;
    } f = {WA_ERROR_INIT};
    bool created = false;
    wa_cluster cluster = {.system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT};
    snprintf(dir, 64, "/tmp/wa-streamer-XXXXXX");
    assert_non_null(mkdtemp(dir));
    OK(&f, wa_repo_of_store(store, "main", 1, ret_repo, &f.err));
    OK(&f, wa_repo_init(*ret_repo, &cluster, false, &created, &f.err));
    wa_streamer_options options = {.conninfo = "unused",
                                   .slot = "unused",
                                   .spool_dir = dir,
                                   .spool_max = 1 << 30,
                                   .tail_interval_ms = 1000};
    OK(&f, wa_streamer_new(*ret_repo, &options, ret, &f.err));
    if (spool)
        OK(&f, wa_spool_open(dir, SEGMENT, &(*ret)->spool, &f.err));
    (*ret)->cluster = *wa_repo_cluster(*ret_repo);
}

/* The streamer's epoch is the second, and it takes over from the first, which has a chunk of
 * FIRST_EPOCH_BYTES in `repo`. */
#define FIRST_EPOCH_BYTES 100
static inline void
follow_first_epoch_in(wa_repo *repo, wa_streamer *s, const wa_branch *branch)
{
    struct {
        wa_error err;
    } f = {WA_ERROR_INIT};
    char bytes[FIRST_EPOCH_BYTES] = "x";
    wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, branch, 0);
    l->epoch = 2;
    l->number = 2;
    wa_lineage_free(s->lineage);
    s->lineage = l;
    s->taking_over = 1;
    OK(&f, wa_tail_put(repo, branch, 1, SEGMENT, SEGMENT, bytes, sizeof bytes, NULL, true, &f.err));
}

static inline void
end_streamer(const char *dir, wa_repo *repo, wa_streamer *s)
{
    struct {
        wa_error err;
    } f = {WA_ERROR_INIT};
    wa_streamer_free(s);
    wa_repo_free(repo);
    OK(&f, wa_remove_tree(dir, &f.err));
}

#endif
