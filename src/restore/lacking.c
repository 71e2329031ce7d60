/*
 * restore/lacking.c - WAL that the main repository lacks and a mirror has. It is not read there:
 * that something does not exist is the main repository's word, and archive-get would not give it
 * to the server either. A refusal names the mirror, which can be read alone.
 */
#include "restore_internal.h"

#include "walagent/store/mirror.h"

char *
wa_plan_lacking_hint(const wa_planning *p, const wa_branch *branch, wa_segno segno)
{
    char segment[WA_SEGMENT_NAME];
    wa_store *store = wa_repo_store(p->o->repo);
    uint64_t size = wa_repo_cluster(p->o->repo)->segment_size;
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_error ignored = WA_ERROR_INIT;
        wa_wal_info info;
        wa_member_status mirror;
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(p->o->repo, i);
        if (wa_wal_head(repo, branch, segno, &info, &ignored) != WA_OK)
            continue;
        wa_store_member_status(store, i, &mirror);
        return wa_format("Repository \"%s\" has WAL segment \"%s\", which the main one lacks: "
                         "\"--repository %s\" reads that copy alone. ",
                         mirror.name, wa_segment_name(branch->tli, segno, size, segment),
                         mirror.name);
    }
    return wa_strdup("");
}

char *
wa_plan_lacking_hint_at(const wa_planning *p, wa_lsn lsn)
{
    const wa_branch *branch = wa_lineage_at(p->lineage, lsn);
    if (branch == NULL)
        return wa_strdup("");
    return wa_plan_lacking_hint(p, branch,
                                wa_segno_of(lsn, wa_repo_cluster(p->o->repo)->segment_size));
}
