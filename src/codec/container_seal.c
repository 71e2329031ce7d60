/*
 * codec/container_seal.c - JSON texts with a version first and a checksum last.
 *
 *   {"v":1, members ... ,"crc":"xxxxxxxx"}    crc: CRC-32C of everything before ,"crc"
 */
#include "container_internal.h"

#include "walagent/base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEAL_SIZE 18 /* ,"crc":"xxxxxxxx"} */

char *
wa_container_crc_text(uint32_t crc, char out[static WA_CRC_HEX])
{
    snprintf(out, WA_CRC_HEX, "%08" PRIx32, crc);
    return out;
}

static void
format_seal(uint32_t crc, char out[static SEAL_SIZE + 1])
{
    snprintf(out, SEAL_SIZE + 1, ",\"crc\":\"%08" PRIx32 "\"}", crc);
}

char *
wa_container_seal(const json_t *members)
{
    WA_CLEANUP(wa_json_freep) json_t *sealed = json_object();
    const char *key;
    json_t *value;
    char seal[SEAL_SIZE + 1];

    wa_json_set_i64(sealed, "v", WA_CONTAINER_VERSION);
    /* json_object_foreach wants a pointer that it could change through; it doesn't. */
    json_object_foreach((json_t *)(uintptr_t)members, key, value)
    {
        WA_ASSERT(strcmp(key, "v") != 0 && strcmp(key, "crc") != 0);
        wa_json_set(sealed, key, json_incref(value));
    }
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(sealed, 0);
    size_t len = strlen(text) - 1; /* without the closing brace */
    format_seal(wa_crc32c(0, text, len), seal);
    return wa_format("%.*s%s", (int)len, text, seal);
}

wa_status
wa_container_unseal(const char *text, size_t len, const char *what, json_t **ret, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    char seal[SEAL_SIZE + 1];
    int64_t version;

    if (len < SEAL_SIZE)
        return wa_error_set(err, WA_CORRUPT, "%s: too short", what);
    format_seal(wa_crc32c(0, text, len - SEAL_SIZE), seal);
    if (memcmp(seal, text + len - SEAL_SIZE, SEAL_SIZE) != 0)
        return wa_error_set(err, WA_CORRUPT, "%s: checksum is wrong", what);
    WA_TRY(wa_json_parse(text, len, what, &json, err));
    WA_TRY(wa_json_get_i64(json, "v", what, &version, err));
    if (version > WA_CONTAINER_VERSION) {
        wa_error_set(err, WA_UNSUPPORTED, "%s: version %" PRId64 " is newer than this program",
                     what, version);
        return wa_error_hint(err, "Use a newer version of walagent.");
    }
    if (version != WA_CONTAINER_VERSION)
        return wa_error_set(err, WA_CORRUPT, "%s: version %" PRId64 " does not exist", what,
                            version);
    *ret = WA_TAKE(json);
    return WA_OK;
}
