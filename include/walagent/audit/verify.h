/*
 * walagent/audit/verify.h - read the archive back and check it: objects, manifests, record chains,
 * coverage.
 *
 * WAL: every segment is fetched, its checksums are verified, and every record is checked in one
 * chain across segments; chunks of the unfinished segment likewise, in one chain with the last
 * whole one. Backups: every pack, the list of files and the manifest are read back; each file's
 * bytes must have the manifest's checksum. Then coverage: the WAL from each backup on, and the
 * holes. Where the newest chunk goes nothing in the archive tells that it was there: `acknowledged`
 * is what somebody else knows of it. With since_verified, segments that the newest mark names are
 * taken as verified; a run records in a new mark which segments it found right
 * (verified/<branch>/<N8>.json, created once each), so damage is found again by every run, and so
 * is what filled a hole later. Threads: `jobs` workers of its own. Memory: jobs x (a segment, raw
 * and compressed). Errors: damage is a finding, not an error; what can't be found out (store away,
 * cancelled) is an error. A mirror that can't be asked is none: the damage says so.
 */
#ifndef WALAGENT_AUDIT_VERIFY_H
#define WALAGENT_AUDIT_VERIFY_H

#include "walagent/base/cancel.h"
#include "walagent/base/progress.h"
#include "walagent/codec/json.h"
#include "walagent/repo/repo.h"

typedef struct wa_damage {
    /* "segment", "chunk", "chain", "history", "backup", "file", "hole"; warnings: "unchecked",
     * "index", "sums" */
    char kind[16];
    char *object; /* key, or what it is */
    char *message;
    bool warning; /* nothing that can be restored is lost */
    char *cost;   /* what can't be restored because of it */
    char *mirror; /* the name of one that has it whole, so that restore and archive-get read it
                     there; NULL: none */
} wa_damage;

typedef struct wa_verify_options {
    wa_repo *repo; /* loaded; what is verified */
    wa_repo
        *mirrored; /* the same with its mirrors, loaded: asked for what is damaged. May be NULL */
    bool wal;
    const char *backup; /* a label, "all", or NULL: none */
    bool since_verified;
    /* Up to here an agent had made this branch's WAL durable before the run began; 0: not known.
     * It began at acknowledged_from, and wrote in acknowledged_epoch. */
    wa_lsn acknowledged, acknowledged_from;
    wa_branch acknowledged_branch;
    uint32_t acknowledged_epoch;
    size_t jobs;
    wa_progress *progress;
    wa_cancel *cancel;
} wa_verify_options;

typedef struct wa_verify_result {
    uint64_t segments, chunks, records, skipped_segments;
    uint64_t backups, files;
    uint64_t wal_bytes, backup_bytes; /* raw */
    size_t damage_count;
    wa_damage *damage;
    size_t warning_count; /* of them, those that are warnings */
} wa_verify_result;

wa_status wa_verify_run(const wa_verify_options *options, wa_verify_result *ret,
                        wa_error *err) WA_MUST_CHECK;
void wa_verify_result_done(wa_verify_result *r);
json_t *wa_verify_to_json(const wa_verify_result *r);

#endif
