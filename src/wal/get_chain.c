/*
 * get_chain.c - which branches a server in recovery may see.
 *
 * pg_wal/walagent.restore.json, written by a restore:
 *   {"v":1,"cluster":...,"chain":[{"branch":"<TLI8>-<id8>","begin":"X/X","end":"X/X"|null}],
 *    "target":...}
 * "target" absent, null or "latest": the copy follows the accepted lineage when that goes on. A
 * standby always does.
 */
#include "get_internal.h"

#include "walagent/base/file.h"
#include "walagent/codec/json.h"

#include <stdlib.h>
#include <string.h>

#define RESTORE_FILE_MAX (1u << 20)

void
wa_get_chain_done(wa_get_chain *c)
{
    wa_lineage_free(c->steps);
    c->steps = NULL;
}

wa_lsn
wa_get_chain_end(const wa_get_chain *c, const wa_branch *branch)
{
    const wa_lineage_step *head = wa_lineage_head(c->steps);
    if (head != NULL && wa_branch_eq(&head->branch, branch))
        return c->limit;
    return wa_lineage_end_of(c->steps, branch);
}

static wa_status
take_step(const json_t *step, const char *what, wa_get_chain *c, wa_error *err)
{
    const char *name = NULL, *begin = NULL;
    wa_branch branch;
    wa_lsn lsn = 0;
    WA_TRY(wa_json_get_string(step, "branch", what, &name, err));
    WA_TRY(wa_json_get_string(step, "begin", what, &begin, err));
    if (!wa_branch_parse(name, &branch))
        return wa_error_set(err, WA_CORRUPT, "\"%s\" in file \"%s\" is no branch", name, what);
    WA_TRY(wa_lsn_parse(begin, &lsn, err));
    const wa_lineage_step *head = wa_lineage_head(c->steps);
    if (c->steps->count >= WA_LINEAGE_MAX ||
        (head != NULL && (branch.tli <= head->branch.tli || lsn < head->begin)))
        return wa_error_set(err, WA_CORRUPT, "the chain in file \"%s\" is not in order", what);
    wa_lineage_append(c->steps, &branch, lsn);
    const char *end = wa_json_string_or(step, "end", NULL);
    c->limit = 0;
    if (end != NULL)
        WA_TRY(wa_lsn_parse(end, &c->limit, err));
    return WA_OK;
}

/* *ret_open: it may follow the lineage. */
static wa_status
parse_pinned(const wa_buf *text, const char *what, wa_get_chain *c, bool *ret_open, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(wa_buf_str(text), text->len, what, &json, err));
    const json_t *chain = json_object_get(json, "chain");
    if (!json_is_array(chain) || json_array_size(chain) == 0)
        return wa_error_set(err, WA_CORRUPT, "file \"%s\" has no chain", what);
    for (size_t i = 0; i < json_array_size(chain); i++)
        WA_TRY(take_step(json_array_get(chain, i), what, c, err));
    const json_t *target = json_object_get(json, "target");
    *ret_open =
        target == NULL || json_is_null(target) || wa_str_eq(json_string_value(target), "latest");
    return WA_OK;
}

static wa_status
load_pinned(const char *data_dir, wa_get_chain *c, bool *ret_open, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, WA_GET_RESTORE_FILE);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(RESTORE_FILE_MAX);
    WA_TRY(wa_file_read(path, RESTORE_FILE_MAX, &text, err));
    c->steps = wa_lineage_new();
    wa_status status = parse_pinned(&text, path, c, ret_open, err);
    if (status == WA_OK)
        return WA_OK;
    wa_error_wrap(err, "chain of the restore");
    err->status = WA_CORRUPT;
    return wa_error_hint(err, "Remove \"%s\" to follow the archive's lineage instead.", path);
}

/* The pinned chain ends on a branch of the accepted lineage: what was accepted behind it too. */
static void
follow_on(wa_get_chain *pinned, const wa_lineage *accepted)
{
    const wa_lineage_step *head = wa_lineage_head(pinned->steps);
    if (pinned->limit != 0 || !wa_lineage_has(accepted, &head->branch))
        return;
    wa_branch last = head->branch;
    bool behind = false;
    for (size_t i = 0; i < accepted->count; i++) {
        if (behind)
            wa_lineage_append(pinned->steps, &accepted->steps[i].branch, accepted->steps[i].begin);
        behind = behind || wa_branch_eq(&accepted->steps[i].branch, &last);
    }
}

wa_status
wa_get_accepted(const wa_get_options *options, wa_lineage **ret, wa_error *err)
{
    wa_error gone = WA_ERROR_INIT;
    if (wa_lineage_load(options->repo, ret, err) != WA_NOT_FOUND)
        return err->status;
    if (wa_repo_still_there(options->repo, &gone) != WA_OK)
        *err = gone;
    else
        err->status = WA_CORRUPT;
    return err->status;
}

wa_status
wa_get_chain_load(const wa_get_options *options, wa_get_mode mode, wa_get_chain *ret, wa_error *err)
{
    WA_CLEANUP(wa_get_chain_done) wa_get_chain pinned = {0};
    bool open = false;
    wa_status status = load_pinned(options->data_dir, &pinned, &open, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    if (status == WA_OK && !open && mode != WA_GET_STANDBY) {
        *ret = pinned;
        pinned.steps = NULL;
        return WA_OK;
    }
    WA_CLEANUP(wa_lineage_freep) wa_lineage *accepted = NULL;
    WA_TRY(wa_get_accepted(options, &accepted, err));
    if (status == WA_OK) {
        follow_on(&pinned, accepted);
        *ret = pinned;
        pinned.steps = NULL;
        return WA_OK;
    }
    *ret = (wa_get_chain){.steps = WA_TAKE(accepted)};
    return WA_OK;
}
