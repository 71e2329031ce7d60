/*
 * Fuzz target: pg_control, as it is and with its checksum made right.
 */
#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/mem.h"
#include "walagent/pg/control.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
parse(const uint8_t *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    wa_control control;
    wa_status status = wa_control_parse(data, len, &control, &err);
    WA_ASSERT(status == WA_OK || status == WA_CORRUPT || status == WA_UNSUPPORTED);
    WA_ASSERT(status != WA_OK || control.state <= WA_DB_IN_PRODUCTION);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    parse(data, len);
    if (len < 296)
        return 0;
    WA_CLEANUP(wa_freep) uint8_t *copy = wa_memdup(data, len);
    size_t crc_offset = wa_get_u32le(copy + 8) == 1800 ? 292 : 288;
    wa_put_u32le(copy + crc_offset, wa_crc32c(0, copy, crc_offset));
    parse(copy, len);
    return 0;
}
