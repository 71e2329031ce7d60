/*
 * get.c - restore_command: one file of the archive to a path, and how long to ask for it.
 */
#include "get_internal.h"

#include "walagent/base/file.h"
#include "walagent/store/mirror.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_MAX (1u << 20)
#define PAUSE_FIRST_MS 200
#define PAUSE_LAST_MS 5000

static wa_status
no_history(const char *name, wa_error *err)
{
    return wa_error_set(err, WA_NOT_FOUND, "history file \"%s\" is not in the archive", name);
}

/* Raw mode: the accepted branch's, else any branch's, else one that waits for its first record. */
static wa_status
history_raw(const wa_get_options *options, wa_tli tli, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *accepted = NULL;
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    WA_CLEANUP(wa_strv_done) wa_strv pending = {0};
    size_t count = 0;
    WA_TRY(wa_get_accepted(options, &accepted, err));
    const wa_branch *branch = wa_lineage_branch_of_tli(accepted, tli);
    if (branch != NULL)
        return wa_history_get(options->repo, branch, ret, err);
    WA_TRY(wa_branches_of(options->repo, tli, &branches, &count, err));
    if (count > 0)
        return wa_history_get(options->repo, &branches[0], ret, err);
    WA_TRY(wa_history_pending(options->repo, tli, &pending, err));
    if (pending.count == 0)
        return wa_error_set(err, WA_NOT_FOUND, "no history");
    return wa_buf_append(ret, pending.items[0], strlen(pending.items[0]), err);
}

static wa_status
history_for_server(const wa_get_options *options, wa_get_mode mode, wa_tli tli, wa_buf *ret,
                   wa_get_result *result, wa_error *err)
{
    WA_CLEANUP(wa_get_chain_done) wa_get_chain chain = {0};
    WA_TRY(wa_get_chain_load(options, mode, &chain, err));
    const wa_branch *branch = wa_lineage_branch_of_tli(chain.steps, tli);
    if (branch != NULL) {
        wa_status status = wa_history_get(options->repo, branch, ret, err);
        if (status == WA_NOT_FOUND) /* accepted, so there was one: lost, not absent */
            status = err->status = WA_CORRUPT;
        return status;
    }
    snprintf(result->note, sizeof result->note, "timeline %u is not in the accepted lineage", tli);
    return wa_error_set(err, WA_NOT_FOUND, "no history");
}

static wa_status
get_history(const wa_get_options *options, wa_get_mode mode, const char *name, const char *target,
            wa_get_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(HISTORY_MAX);
    wa_tli tli = 0;
    if (!wa_history_name_parse(name, &tli) || tli == 1)
        return no_history(name, err);
    wa_status status = mode == WA_GET_RAW ? history_raw(options, tli, &text, err)
                                          : history_for_server(options, mode, tli, &text, ret, err);
    if (status == WA_NOT_FOUND)
        return no_history(name, err);
    WA_TRY(status);
    return wa_get_write(target, text.data, text.len, text.len, mode == WA_GET_RAW, err);
}

/* NOT_FOUND stays only where the repository is there without the file. */
static wa_status
confirm_absent(const wa_get_options *options, wa_error *err)
{
    wa_error gone = WA_ERROR_INIT;
    if (wa_repo_still_there(options->repo, &gone) != WA_OK)
        *err = gone;
    return err->status;
}

/* A mirror has answered something on the way. What it gave is the main repository's; that it hasn't
 * something says nothing of the main one, and neither does the end of what it has of an unfinished
 * segment, at which a recovery would end. */
static wa_status
by_a_mirror(const wa_get_options *options, wa_get_mode mode, const char *name, const char *target,
            bool listed, wa_status status, wa_get_result *ret, wa_error *err)
{
    wa_member_status from;
    wa_store_member_status(wa_repo_store(options->repo), 0, &from);
    if (status == WA_OK && ret->note[0] == '\0')
        snprintf(ret->note, sizeof ret->note, "read from a mirror, since %.200s", from.last_error);
    bool ends = status == WA_OK && listed && ret->from_tail && mode == WA_GET_RECOVERY;
    if (status != WA_NOT_FOUND && !ends)
        return status;
    if (ends)
        (void)unlink(target);
    wa_error_set(err, WA_UNAVAILABLE, "no mirror has %s\"%s\", and of the main repository: %s",
                 ends ? "the whole of " : "", name, from.last_error);
    return wa_error_hint(err,
                         "If the main repository is lost, let archive-get read a mirror alone, "
                         "with --repository NAME.");
}

static wa_status
look(const wa_get_options *options, wa_get_mode mode, const char *name, const char *target,
     wa_get_result *ret, wa_error *err)
{
    wa_status status;
    switch (wa_wal_file_kind_of(name)) {
    case WA_WAL_SEGMENT:
        status = wa_get_segment(options, mode, name, target, false, ret, err);
        break;
    case WA_WAL_HISTORY:
        status = get_history(options, mode, name, target, ret, err);
        break;
    case WA_WAL_PARTIAL:
    case WA_WAL_BACKUP:
        status =
            wa_error_set(err, WA_NOT_FOUND, "\"%s\": files of this kind are not given out", name);
        break;
    case WA_WAL_OTHER:
    default:
        return wa_error_set(err, WA_INVALID, "\"%s\" is no name of a WAL file", name);
    }
    return status == WA_NOT_FOUND ? confirm_absent(options, err) : status;
}

wa_status
wa_get_file(const wa_get_options *options, wa_get_mode mode, const char *name, const char *target,
            wa_get_result *ret, wa_error *err)
{
    wa_get_result result = {0};
    wa_store *store = wa_repo_store(options->repo);
    WA_TRY(wa_cancel_check(options->cancel, err));
    uint64_t served = wa_store_mirror_served(store), listed = wa_store_mirror_listed(store);
    wa_status status = look(options, mode, name, target, &result, err);
    if (status == WA_NOT_FOUND && served != wa_store_mirror_served(store)) {
        wa_store_mirror_ask_main(store); /* it may be back */
        served = wa_store_mirror_served(store);
        listed = wa_store_mirror_listed(store);
        result = (wa_get_result){0};
        status = look(options, mode, name, target, &result, err);
    }
    if (served != wa_store_mirror_served(store))
        status = by_a_mirror(options, mode, name, target, listed != wa_store_mirror_listed(store),
                             status, &result, err);
    *ret = result;
    return status;
}

static bool
may_pass(wa_status status)
{
    return status == WA_UNAVAILABLE || status == WA_IO;
}

static wa_status
get_once(const wa_get_options *options, wa_get_mode mode, const char *name, const char *target,
         wa_get_result *ret, wa_error *err)
{
    wa_error_clear(err);
    if (!wa_repo_loaded(options->repo)) {
        wa_status status = wa_repo_load(options->repo, err);
        if (status == WA_NOT_FOUND) /* no archive at all is no answer about a file */
            err->status = WA_INVALID;
        WA_TRY(err->status);
    }
    return wa_get_file(options, mode, name, target, ret, err);
}

wa_status
wa_get_file_until(const wa_get_options *options, wa_get_mode mode, const char *name,
                  const char *target, wa_mono deadline, wa_get_result *ret, wa_error *err)
{
    uint64_t pause = PAUSE_FIRST_MS;
    wa_error failed = WA_ERROR_INIT;
    for (;;) {
        wa_status status = get_once(options, mode, name, target, ret, err);
        if (may_pass(status))
            failed = *err;
        if (may_pass(status) && wa_mono_left(deadline) > 0) {
            uint64_t left = (uint64_t)wa_mono_left(deadline);
            status = wa_cancel_sleep(options->cancel, pause < left ? pause : left, err);
            if (status == WA_OK) {
                pause = pause * 2 > PAUSE_LAST_MS ? PAUSE_LAST_MS : pause * 2;
                continue;
            }
        }
        if (status == WA_CANCELLED && failed.status != WA_OK)
            *err = failed; /* what was tried says more than that it was ended */
        return status == WA_OK ? WA_OK : err->status;
    }
}
