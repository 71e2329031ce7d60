/*
 * Fuzz target: the public facts of WAL objects, as a store gives them back; what is accepted reads
 * the same after it was written again.
 */
#include "walagent/repo/wal_object.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_freep) char *meta = wa_strndup((const char *)data, len);
    wa_error err = WA_ERROR_INIT;
    wa_wal_info info, again;

    if (wa_wal_info_parse(meta, "input", &info, &err) != WA_OK) {
        WA_ASSERT(err.status == WA_CORRUPT && err.message[0] != '\0');
        return 0;
    }
    WA_ASSERT(info.base <= info.start && info.start <= info.end);
    WA_CLEANUP(wa_freep) char *text = wa_wal_info_meta("wal", &info);
    WA_ASSERT(wa_wal_info_parse(text, "output", &again, &err) == WA_OK);
    WA_ASSERT(again.start == info.start && again.end == info.end && again.base == info.base);
    WA_ASSERT(again.raw_size == info.raw_size && again.epoch == info.epoch);
    WA_ASSERT(strcmp(again.xxh3, info.xxh3) == 0 && again.checked == info.checked);
    WA_ASSERT(wa_branch_eq(&again.branch, &info.branch));
    return 0;
}
