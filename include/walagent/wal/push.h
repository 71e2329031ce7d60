/*
 * walagent/wal/push.h - archive_command: one file of pg_wal into the archive.
 *
 * Rules: CONTINUITY "archive-push" and FORMATS 13, 19, 20 as docs/formats.md states them. OK means
 * durable. The same content again is OK. Other content: CONFLICT, kept in quarantine, both named.
 * Wrong system identifier, size, or name against the page's address: CONFLICT. An incomplete
 * segment is never stored under its whole name: its valid prefix becomes a cumulative chunk (or is
 * there already), and the answer is OK. A segment that contradicts itself is read twice; the same
 * both times: archived with checked = false, a warning. Any timeline is archived under its own
 * branch; nothing is adopted here.
 */
#ifndef WALAGENT_WAL_PUSH_H
#define WALAGENT_WAL_PUSH_H

#include "walagent/base/cancel.h"
#include "walagent/repo/wal_object.h"

#include <sys/types.h>
#include <time.h>

/* What a caller with many segments pushes one after the other with, kept with its pages: as much as
 * they turned out to need. Zeroed at first. */
typedef struct wa_push_room {
    wa_compressor *compressor;
    void *segment; /* of `size` bytes; for what has to be read as a whole */
    uint64_t size;
} wa_push_room;
void wa_push_room_done(wa_push_room *room);

typedef struct wa_push_options {
    wa_repo *repo; /* loaded */
    /* What the agent's streamer knows (as wa_streamer_knows): a streamed segment then costs one
     * checksum. NULL elsewhere. */
    bool (*knows)(void *arg, const char *segment_name, char ret_xxh3[static WA_XXH_HEX],
                  wa_branch *ret_branch);
    void *knows_arg;
    wa_pool *pool; /* for compression; NULL: this thread */
    /* The archive may have it (streamed or pushed ahead by somebody else): one question first,
     * which saves compression and upload. */
    bool look_first;
    /* Called when nothing is left but to make the segment (or its chunk) visible or to find that
     * its name is taken; a whole one is compressed by then, and written in file://. Pushes that run
     * side by side so become visible in the order of their names. Not OK: nothing becomes visible,
     * and that is the answer. Called earlier as well where only the segment before tells the
     * branch. May be NULL. */
    wa_status (*turn)(void *arg, wa_error *err);
    void *turn_arg;
    wa_push_room *room; /* one push at a time has it; NULL: memory is allocated */
    /* Called once at most, when the room is not looked at any more, which for a whole segment is
     * before its bytes are synced and before its turn. May be NULL. */
    void (*room_done)(void *arg);
    void *room_arg;
    bool stop_on_damage;
    wa_cancel *cancel;
} wa_push_options;

/* Which file was read, and in which state. */
typedef struct wa_push_source {
    bool settled; /* it was at rest for long enough: the clock of file systems is coarse */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} wa_push_source;
/* Is it still this file, untouched since? Then it has the bytes that were read. False is no proof
 * of the contrary. */
bool wa_push_source_is(const wa_push_source *source, const char *path);

typedef struct wa_push_result {
    wa_put_outcome outcome;
    wa_branch branch;
    bool checked;
    char xxh3[WA_XXH_HEX]; /* of a whole segment that is archived under its name; else "" */
    char warning[512];     /* "" when there is none */
    wa_push_source source; /* of a segment */
} wa_push_result;

/* path: the file (absolute or relative to the working directory); its base name is the WAL file
 * name. The directory of `path` is looked at for histories (to tell the branch). */
wa_status wa_push_file(const wa_push_options *options, const char *path, wa_push_result *ret,
                       wa_error *err) WA_MUST_CHECK;

/* Look-ahead: segments that archive_status says are ready, in order, after `name`; at most max. */
wa_status wa_push_ready_after(const char *wal_dir, const char *name, size_t max, wa_strv *ret,
                              wa_error *err) WA_MUST_CHECK;

#endif
