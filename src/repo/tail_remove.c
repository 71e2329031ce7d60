/*
 * src/repo/tail_remove.c - chunks go when the whole segment is there, the newest of a branch never:
 * it is where the next epoch's chain begins.
 */
#include "walagent/repo/tail.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdlib.h>

#define PAGE 1000u /* keys that one request lists */

typedef struct wholes {
    wa_segno *segments; /* that have chunks to be removed, in order */
    bool *there;
    size_t count, next; /* next: the first one that no listing has passed */
    wa_segno end;       /* of this listing */
} wholes;

static void
wholes_done(wholes *w)
{
    free(w->segments);
    free(w->there);
}

static wa_status
note_whole(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    wholes *w = arg;
    while (w->next < w->count && w->segments[w->next] < segno)
        w->next++;
    if (w->next < w->count && w->segments[w->next] == segno)
        w->there[w->next++] = true;
    return w->next == w->count || segno + 1 >= w->end ? WA_CANCELLED : WA_OK; /* enough */
}

/* Listings of one page each, from a segment that has chunks on. */
static wa_status
look_for_wholes(wa_repo *repo, const wa_branch *branch, wholes *w, wa_error *err)
{
    while (w->next < w->count) {
        wa_segno from = w->segments[w->next];
        w->end = from + PAGE;
        WA_TRY(wa_wal_list(repo, branch, from, note_whole, w, err));
        while (w->next < w->count && w->segments[w->next] < w->end)
            w->next++;
    }
    return WA_OK;
}

wa_status
wa_tail_remove_range(wa_repo *repo, const wa_branch *branch, wa_segno first, wa_segno end,
                     wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_TRY(wa_tail_list_from(repo, branch, first, &chunks, err));
    size_t removable = 0;
    while (removable + 1 < chunks.count && wa_segno_of(chunks.items[removable].start, size) < end)
        removable++;
    WA_CLEANUP(wholes_done)
    wholes w = {.segments = wa_calloc(removable + 1, sizeof *w.segments),
                .there = wa_calloc(removable + 1, sizeof *w.there)};
    for (size_t i = 0; i < removable; i++) {
        wa_segno segno = wa_segno_of(chunks.items[i].start, size);
        if (w.count == 0 || w.segments[w.count - 1] != segno)
            w.segments[w.count++] = segno;
    }
    WA_TRY(look_for_wholes(repo, branch, &w, err));
    for (size_t i = 0, s = 0; i < removable; i++) {
        while (w.segments[s] != wa_segno_of(chunks.items[i].start, size))
            s++;
        if (w.there[s])
            wa_strv_add(&keys, chunks.items[i].key);
    }
    return keys.count == 0 ? WA_OK : wa_store_delete(wa_repo_store(repo), &keys, err);
}

wa_status
wa_tail_remove(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_error *err)
{
    wa_wal_info whole = {0};
    if (wa_wal_head(repo, branch, segno, &whole, err) != WA_OK)
        return wa_error_wrap(err, "chunks are kept while the whole segment is not there");
    return wa_tail_remove_range(repo, branch, segno, segno + 1, err);
}
