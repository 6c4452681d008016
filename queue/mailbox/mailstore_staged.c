/* Texts on their way to a Maildir: written piece by piece into a file of the staging folder, with plain line ends. */
#include "queue/mailbox/mailstore_files.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct staged_piece {
    struct crew_job job;
    struct staged *staged;
    uint32_t size;
    uint8_t bytes[STAGED_PIECE_BYTES];
};

/* ── The thread's ────────────────────────────────────────────────────────────────────────────── */

struct plain { /* a piece with its line ends changed */
    struct staged *staged;
    size_t size;
    uint8_t bytes[STAGED_PIECE_BYTES * 2 + 2];
};

static void plain_put(struct plain *plain, uint8_t byte)
{
    struct staged *staged = plain->staged;
    staged->virtual_bytes += 1 + (byte == '\n' && staged->last != '\r');
    staged->last = byte;
    plain->bytes[plain->size++] = byte;
}

/* CRLF becomes LF; behind another CR it stays, else a reader could not tell what was there. */
static void plain_take(struct plain *plain, const uint8_t *bytes, size_t size)
{
    struct staged *staged = plain->staged;
    for (size_t i = 0; i < size; i++) {
        if (staged->carriage && !(bytes[i] == '\n' && staged->last != '\r')) {
            plain_put(plain, '\r');
        }
        staged->carriage = bytes[i] == '\r';
        if (!staged->carriage) {
            plain_put(plain, bytes[i]);
        }
    }
}

static int all_write(struct staged *staged, const uint8_t *bytes, size_t size)
{
    const struct maildir_files *files = staged->files->settings.owner->files;
    if (staged->file < 0) {
        staged->file = files->make_file(files->self, staged->files->staging, staged->name);
    }
    if (staged->file < 0) {
        return staged->file;
    }
    for (size_t done = 0; done < size;) {
        ssize_t written = files->write(files->self, staged->file, bytes + done, size - done);
        if (written < 0) {
            return (int)written;
        }
        done += (size_t)written;
    }
    staged->bytes += size;
    return 0;
}

static void piece_work(struct crew_job *job)
{
    struct staged_piece *piece = list_entry(job, struct staged_piece, job);
    struct staged *staged = piece->staged;
    struct plain *plain = malloc(sizeof *plain);
    if (plain == NULL) {
        staged->error = -ENOMEM;
        return;
    }
    plain->staged = staged;
    plain->size = 0;
    plain_take(plain, piece->bytes, piece->size);
    bool last = piece->size < STAGED_PIECE_BYTES; /* only the last one is not full */
    if (last && staged->carriage) {
        staged->carriage = false;
        plain_put(plain, '\r');
    }
    int status = staged->error == 0 ? all_write(staged, plain->bytes, plain->size) : staged->error;
    staged->error = status;
    free(plain);
}

static void end_work(struct crew_job *job)
{
    struct staged *staged = list_entry(job, struct staged, end);
    const struct maildir_files *files = staged->files->settings.owner->files;
    if (staged->file >= 0) {
        files->close(files->self, staged->file);
        files->remove(files->self, staged->files->staging, staged->name);
        staged->file = -1;
    }
}

/* ── The shard's ─────────────────────────────────────────────────────────────────────────────── */

int staged_begin(struct mailstore_draft *draft)
{
    struct files *files = draft->store->files;
    struct staged *staged = calloc(1, sizeof *staged);
    if (staged == NULL) {
        return -ENOMEM;
    }
    staged->files = files;
    staged->file = -1;
    crew_line_open(&staged->line);
    snprintf(staged->name, sizeof staged->name, "%016" PRIx64, draft->id);
    files->staged_count++;
    draft->file = staged;
    return 0;
}

void staged_free(struct staged *staged)
{
    free(staged->open);
    staged->files->staged_count--;
    free(staged);
}

static void end_done(struct crew_job *job)
{
    staged_free(list_entry(job, struct staged, end));
}

static void staged_end(struct staged *staged)
{
    staged->end = (struct crew_job){.work = end_work, .done = end_done};
    crew_give(staged->files->crew, &staged->line, &staged->end);
}

static void piece_done(struct crew_job *job)
{
    struct staged_piece *piece = list_entry(job, struct staged_piece, job);
    struct staged *staged = piece->staged;
    staged->pieces--;
    staged->files->staged_bytes -= sizeof *piece;
    free(piece);
    if (staged->pieces == 0 && staged->mirror != NULL) {
        mirror_next(staged->mirror);
    }
}

static void piece_give(struct staged *staged)
{
    struct staged_piece *piece = staged->open;
    staged->open = NULL;
    staged->pieces++;
    staged->files->staged_bytes += sizeof *piece;
    piece->job = (struct crew_job){.work = piece_work, .done = piece_done};
    crew_give(staged->files->crew, &staged->line, &piece->job);
}

int staged_append(struct mailstore_draft *draft, const struct slice *parts, size_t count)
{
    struct staged *staged = draft->file;
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += parts[i].size;
    }
    if (staged->files->staged_bytes + size > FILES_STAGED_BYTES_MAX &&
        staged->files->staged_bytes > 0) {
        return -EAGAIN;
    }
    for (size_t i = 0; i < count; i++) {
        for (struct slice part = parts[i]; part.size > 0;) {
            if (staged->open == NULL) {
                staged->open = calloc(1, sizeof *staged->open);
            }
            struct staged_piece *piece = staged->open;
            if (piece == NULL) {
                return -ENOMEM;
            }
            struct slice taken = slice_first(part, STAGED_PIECE_BYTES - piece->size);
            piece->staged = staged;
            memcpy(piece->bytes + piece->size, taken.bytes, taken.size);
            piece->size += (uint32_t)taken.size;
            part = slice_from(part, taken.size);
            if (piece->size == STAGED_PIECE_BYTES) {
                piece_give(staged);
            }
        }
    }
    draft->bytes += (uint32_t)size;
    draft->store->counters.bytes_in += size;
    return 0;
}

void staged_abort(struct staged *staged)
{
    free(staged->open);
    staged->open = NULL;
    staged_end(staged);
}

void staged_finish(struct staged *staged, struct mirror *mirror)
{
    staged->mirror = mirror;
    if (staged->open == NULL) { /* a CR at the very end waits for what follows */
        staged->open = calloc(1, sizeof *staged->open);
    }
    if (staged->open == NULL) {
        staged->short_of_memory = true;
        return;
    }
    staged->open->staged = staged;
    piece_give(staged);
}
