/*
 * restore/run.c - carry a plan out: check the directory, lay the files down, settings, sync,
 * pg_control.
 *
 * Until the last step the directory has no pg_control, so no server starts on half of it.
 */
#include "restore_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"
#include "walagent/base/log.h"
#include "walagent/pg/control.h"

#include <string.h>
#include <unistd.h>

static wa_status
check_control(const wa_restore_options *o, const wa_control_file *file, const char *label,
              wa_error *err)
{
    wa_control control;
    if (wa_control_parse(file->data, sizeof file->data, &control, err) != WA_OK)
        return wa_error_wrap(err, "\"%s\" of backup %s", WA_CONTROL_PATH, label);
    if (control.system_identifier != wa_repo_cluster(o->repo)->system_identifier)
        return wa_error_set(err, WA_CORRUPT, "\"%s\" of backup %s belongs to another cluster",
                            WA_CONTROL_PATH, label);
    return WA_OK;
}

static void
set_phase(const wa_restore_options *o, const char *phase)
{
    if (o->progress != NULL)
        atomic_store(&o->progress->phase, phase);
}

static wa_status
lay_down(const wa_restore_options *o, const wa_restore_plan *plan, wa_layout *l, wa_error *err)
{
    const char *label = plan->backup->label;
    WA_CLEANUP(wa_expected_done) wa_expected expected = {0};
    WA_CLEANUP(wa_freep) wa_control_file *control = wa_calloc(1, sizeof *control);
    WA_CLEANUP(wa_freep) char *manifest = wa_path_join(l->root, "backup_manifest");
    if (o->delta) {
        set_phase(o, "comparing");
        WA_TRY(wa_delta_clean(o, l, label, err));
    }
    WA_TRY(wa_layout_create(l, err));
    WA_TRY(wa_expected_load(o->repo, label, manifest, &expected, err));
    WA_CLEANUP(wa_chain_freep) wa_chain *chain = NULL;
    if (plan->chain_count > 1)
        WA_TRY(wa_chain_load(o, plan, &chain, err));
    set_phase(o, "restoring");
    WA_TRY(wa_fetch_files(o, label, l, &expected, chain, control, err));
    if (chain != NULL)
        WA_TRY(wa_chain_finish(chain, o, plan, l, err));
    WA_TRY(check_control(o, control, label, err));
    WA_CRASH_POINT("restore-before-settings");
    WA_TRY(wa_restore_write_settings(o, plan, l->root, err));
    set_phase(o, "syncing");
    WA_TRY(wa_layout_sync(l, err));
    WA_CRASH_POINT("restore-before-control");
    WA_CLEANUP(wa_freep) char *path = wa_path_join(l->root, WA_CONTROL_PATH);
    WA_TRY(wa_file_write(path, control->data, sizeof control->data, control->mode, WA_WRITE_REPLACE,
                         err));
    return wa_fsync_parent(l->root, err);
}

wa_status
wa_restore_run(const wa_restore_options *o, const wa_restore_plan *plan, wa_error *err)
{
    WA_CLEANUP(wa_layout_done) wa_layout l = {0};
    WA_ASSERT(o->no_recovery || o->restore_command != NULL);
    set_phase(o, "checking");
    WA_TRY(wa_restore_check_settings(o, err));
    WA_TRY(wa_layout_check(o, plan, &l, err));
    if (o->progress != NULL) {
        atomic_store(&o->progress->total_bytes, l.bytes);
        atomic_store(&o->progress->total_files, l.files);
    }
    if (geteuid() == 0)
        wa_say(&o->listener, WA_LOG_WARNING, "Run the command as the server's user.",
               "the restored files belong to root, and PostgreSQL doesn't run as root");
    if (lay_down(o, plan, &l, err) == WA_OK)
        return WA_OK;
    wa_error_wrap(err, "could not restore into \"%s\"", l.root);
    if (err->hint[0] == '\0' && access(l.root, F_OK) == 0)
        wa_error_hint(err, "The directory is incomplete and does not start; repeat the command "
                           "with --delta to complete it.");
    return err->status;
}
