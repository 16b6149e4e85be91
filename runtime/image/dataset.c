/* Lists an ImageFolder. Names are gathered in growing lists of arena strings, sorted, and then kept
 * in the arena. */
#include "runtime/image/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const extensions[] = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".ppm", ".webp"};

/* A growing list of strings that live in the dataset's arena. */
typedef struct name_list {
    const char **items; /* rq_alloc */
    size_t n, capacity;
} name_list;

static rq_status list_add(name_list *list, const char *name, rq_error *err)
{
    if (!name)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (file names)");
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        const char **items = rq_alloc_array(const char *, capacity);
        if (!items)
            return rq_no_memory(err);
        if (list->n)
            memcpy(items, list->items, list->n * sizeof *list->items);
        rq_free(list->items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = name;
    return RQ_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_sort(const name_list *list, size_t first)
{
    if (list->n - first > 1)
        qsort(list->items + first, list->n - first, sizeof *list->items, compare_names);
}

static bool is_image_name(const char *name)
{
    const char *extension = strrchr(name, '.');
    for (size_t i = 0; extension && i < sizeof extensions / sizeof *extensions; i++)
        if (strcasecmp(extension, extensions[i]) == 0)
            return true;
    return false;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Links, and entries of file systems that do not tell, are looked up. */
static bool entry_is_folder(const struct dirent *entry, const char *path)
{
    return entry->d_type == DT_DIR ||
           ((entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN) && is_folder(path));
}

/* Add the full path of an entry to the list that it belongs to, if any. */
static rq_status read_entry(rq_arena *arena, const char *folder, const struct dirent *entry,
                            name_list *folders, name_list *images, rq_error *err)
{
    const bool is_image = is_image_name(entry->d_name);
    if (entry->d_name[0] == '.' || (entry->d_type == DT_REG && !is_image))
        return RQ_OK;
    const char *path = rq_arena_printf(arena, "%s/%s", folder, entry->d_name);
    if (path && entry_is_folder(entry, path))
        return list_add(folders, path, err);
    return !path || is_image ? list_add(images, path, err) : RQ_OK;
}

/* The sub-folders and images of a folder. */
static rq_status read_folder(rq_arena *arena, const char *folder, name_list *folders,
                             name_list *images, rq_error *err)
{
    rq_status status = RQ_OK;
    DIR *stream = opendir(folder);
    if (!stream)
        return rq_fail_errno(err, folder, "open the folder");
    while (!status) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry) {
            status = read_entry(arena, folder, entry, folders, images, err);
        } else {
            status = errno ? rq_fail_errno(err, folder, "read the folder") : RQ_OK;
            break;
        }
    }
    (void)closedir(stream);
    return status;
}

/* Add all images below a folder; level: that folder. Breadth first, so that depth is bounded without
 * recursion. */
static rq_status read_levels(rq_arena *arena, const char *folder, name_list *level,
                             name_list *below, name_list *images, rq_error *err)
{
    RQ_TRY(list_add(level, folder, err));
    for (int depth = 0; level->n > 0; depth++) {
        if (depth > RQ_DATASET_MAX_DEPTH)
            return rq_fail(err, RQ_ERR_FILE, "%s: more than %d folders deep (links in a circle?)",
                           folder, RQ_DATASET_MAX_DEPTH);
        for (size_t i = 0; i < level->n; i++)
            RQ_TRY(read_folder(arena, level->items[i], below, images, err));
        const name_list done = *level;
        *level = *below;
        *below = (name_list){done.items, 0, done.capacity};
    }
    return RQ_OK;
}

/* Add all images of a class, sorted. */
static rq_status read_class(rq_arena *arena, const char *folder, name_list *images, rq_error *err)
{
    name_list level = {0}, below = {0};
    const size_t first = images->n;
    const rq_status status = read_levels(arena, folder, &level, &below, images, err);
    rq_free(level.items);
    rq_free(below.items);
    if (status)
        return status;
    if (images->n == first)
        return rq_fail(err, RQ_ERR_FILE,
                       "%s: a class folder without images (.jpg .jpeg .jpe .png .bmp .ppm .webp)",
                       folder);
    list_sort(images, first);
    return RQ_OK;
}

/* The folder that holds the classes of a split, by the rule in the header. */
static rq_status find_root(rq_arena *arena, const char *dir, rq_split split, const char **root,
                           rq_error *err)
{
    static const struct {
        const char *name;
        rq_split split;
    } known[] = {{"train", RQ_SPLIT_TRAIN},
                 {"val", RQ_SPLIT_VAL},
                 {"validation", RQ_SPLIT_VAL},
                 {"test", RQ_SPLIT_VAL}};
    const char *other = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *path = rq_arena_printf(arena, "%s/%s", dir, known[i].name);
        if (!path)
            return rq_fail(err, RQ_ERR_NOMEM, "out of memory (folder names)");
        if (!is_folder(path))
            continue;
        if (known[i].split == split) {
            *root = path;
            return RQ_OK;
        }
        other = known[i].name;
    }
    if (other)
        return rq_fail(err, RQ_ERR_FILE, "%s: has a folder '%s' but no %s", dir, other,
                       split == RQ_SPLIT_TRAIN ? "'train'" : "'val', 'validation' or 'test'");
    *root = rq_arena_strdup(arena, dir);
    return *root ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory (folder names)");
}

/* Move the gathered lists into the dataset. first[c] is the position of class c's first image. */
static rq_status keep(rq_dataset *dataset, const name_list *classes, const name_list *images,
                      const size_t *first, rq_error *err)
{
    dataset->class_names = rq_arena_array(&dataset->arena, const char *, classes->n);
    dataset->paths = rq_arena_array(&dataset->arena, const char *, images->n);
    dataset->labels = rq_arena_array(&dataset->arena, int32_t, images->n);
    if (!dataset->class_names || !dataset->paths || !dataset->labels)
        return rq_no_memory(err);
    dataset->n_classes = (int)classes->n;
    dataset->n_images = images->n;
    for (size_t c = 0; c < classes->n; c++) {
        dataset->class_names[c] = strrchr(classes->items[c], '/') + 1;
        const size_t end = c + 1 < classes->n ? first[c + 1] : images->n;
        for (size_t i = first[c]; i < end; i++) {
            dataset->paths[i] = images->items[i];
            dataset->labels[i] = (int32_t)c;
        }
    }
    return RQ_OK;
}

typedef struct lists {
    name_list classes, images, loose;
    size_t *first; /* of each class, into images */
} lists;

static rq_status read_root(rq_dataset *dataset, lists *found, rq_error *err)
{
    name_list *classes = &found->classes, *images = &found->images;
    RQ_TRY(read_folder(&dataset->arena, dataset->root, classes, &found->loose, err));
    if (classes->n == 0)
        return rq_fail(err, RQ_ERR_FILE, "%s: no class folders in it", dataset->root);
    list_sort(classes, 0);
    found->first = rq_alloc_array(size_t, classes->n);
    if (!found->first)
        return rq_no_memory(err);
    for (size_t c = 0; c < classes->n; c++) {
        found->first[c] = images->n;
        RQ_TRY(read_class(&dataset->arena, classes->items[c], images, err));
    }
    if (images->n > UINT32_MAX || classes->n > INT32_MAX)
        return rq_fail(err, RQ_ERR_FILE, "%s: %zu images in %zu classes are too many",
                       dataset->root, images->n, classes->n);
    return keep(dataset, classes, images, found->first, err);
}

rq_status rq_dataset_open(rq_dataset *out, const char *dir, rq_split split, rq_error *err)
{
    lists found = {0};
    rq_status status;
    *out = (rq_dataset){.arena = RQ_ARENA_INIT};
    if ((status = find_root(&out->arena, dir, split, &out->root, err)) ||
        (status = read_root(out, &found, err)))
        rq_dataset_close(out);
    rq_free(found.classes.items);
    rq_free(found.images.items);
    rq_free(found.loose.items);
    rq_free(found.first);
    return status;
}

void rq_dataset_close(rq_dataset *dataset)
{
    rq_arena_deinit(&dataset->arena);
    *dataset = (rq_dataset){.arena = RQ_ARENA_INIT};
}
