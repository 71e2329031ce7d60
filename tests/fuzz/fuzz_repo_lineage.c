/*
 * Fuzz target: documents of lineage/; the accepted chain keeps the promises of the header, and
 * reads the same after it was written again.
 */
#include "repo_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
check_chain(const wa_lineage *l)
{
    WA_ASSERT(l->count <= WA_LINEAGE_MAX);
    for (size_t i = 0; i < l->count; i++) {
        const wa_lineage_step *step = &l->steps[i];
        WA_ASSERT(i == 0 ||
                  (step->branch.tli > step[-1].branch.tli && step->begin >= step[-1].begin));
        WA_ASSERT(wa_lineage_has(l, &step->branch));
        WA_ASSERT(wa_lineage_branch_of_tli(l, step->branch.tli) == &step->branch);
        (void)wa_lineage_end_of(l, &step->branch);
        (void)wa_lineage_at(l, step->begin);
    }
    for (size_t i = 0; i < l->rejected_count; i++)
        WA_ASSERT(wa_lineage_is_rejected(l, &l->rejected[i]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *again = NULL;
    wa_error err = WA_ERROR_INIT;

    if (wa_json_parse((const char *)data, len, "input", &json, &err) != WA_OK ||
        wa_lineage_from_json(json, "input", &l, &err) != WA_OK) {
        WA_ASSERT(err.status == WA_CORRUPT && err.message[0] != '\0');
        return 0;
    }
    check_chain(l);
    WA_CLEANUP(wa_json_freep) json_t *written = wa_lineage_to_json(l);
    WA_ASSERT(wa_lineage_from_json(written, "output", &again, &err) == WA_OK);
    WA_ASSERT(again->count == l->count && again->seal_count == l->seal_count);
    WA_ASSERT(again->rejected_count == l->rejected_count && again->epoch == l->epoch);
    WA_ASSERT(again->since == l->since);
    return 0;
}
