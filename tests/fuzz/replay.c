/*
 * tests/fuzz/replay.c - runs a fuzz target over files and directories of a corpus, without
 * libFuzzer.
 *
 * Fails when a path can't be read, or when there was nothing to run.
 */
#include "walagent/base/file.h"

#include <dirent.h>
#include <stdio.h>

#define INPUT_MAX (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static size_t inputs;

static wa_status
replay_file(const char *path, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf input = WA_BUF_INIT(INPUT_MAX);

    WA_TRY(wa_file_read(path, INPUT_MAX, &input, err));
    /* a copy of the exact size, so that AddressSanitizer sees a read past the end */
    WA_CLEANUP(wa_freep) uint8_t *exact = wa_memdup(wa_buf_str(&input), input.len);
    LLVMFuzzerTestOneInput(exact, input.len);
    inputs++;
    return WA_OK;
}

static wa_status
replay(const char *path, wa_error *err)
{
    struct dirent *entry;
    DIR *dir = opendir(path);

    if (!dir)
        return replay_file(path, err);
    wa_status status = WA_OK;
    while (status == WA_OK && (entry = readdir(dir))) {
        WA_CLEANUP(wa_freep) char *file = wa_path_join(path, entry->d_name);
        if (entry->d_name[0] != '.')
            status = replay_file(file, err);
    }
    closedir(dir);
    return status;
}

int
main(int argc, char **argv)
{
    wa_error err = WA_ERROR_INIT;

    for (int i = 1; i < argc; i++) {
        if (replay(argv[i], &err) != WA_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
    }
    printf("%zu inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
}
