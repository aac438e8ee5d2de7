-- How tasks are found: by full text, by tag, and sorted in every order that a list can have.

-- What text search needs: extensions, and what we make of them. A schema of its own, since nobody may look into `public`.
create schema search;
create extension unaccent schema search;
create extension pg_trgm schema search;
create extension btree_gin schema search;

-- Two readings of a word: as it is written, and its English stem. Both without accents, and neither drops stop words:
-- "to do" is a search, and what is a stop word here is a noun elsewhere. Words of other languages have stems too, odd
-- ones, which does no harm: a text and a question get the same.
create text search dictionary search.stem (template = snowball, language = english);
create text search configuration search.written (copy = simple);
alter text search configuration search.written
    alter mapping for word, numword, hword, numhword, hword_part, hword_numpart with search.unaccent, simple;
create text search configuration search.stemmed (copy = search.written);
alter text search configuration search.stemmed
    alter mapping for asciiword, asciihword, hword_asciipart with search.stem;
alter text search configuration search.stemmed
    alter mapping for word, hword, hword_part with search.unaccent, search.stem;

-- A text as words with blanks between them, so that PostgreSQL's parser finds words and nothing else: not the addresses,
-- paths, numbers with signs and compounds that it knows, whose parts could not be searched for.
create function search.words(given text) returns text
language plpgsql immutable parallel safe strict as $$
declare
    t text := translate(given, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', '                                ');
begin
    if octet_length(t) = length(t) then
        return t;
    end if;
    -- One form of each character; ICU's lower case, since the database's own may know ASCII only.
    t := lower(normalize(t, nfkc) collate "und-x-icu");
    -- What is written without blanks is searched by character, a sequence of them being a phrase: Han, kana, Hangul, Thai,
    -- Lao, Burmese, Khmer.
    t := regexp_replace(t, '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff])',
                        ' \1 ', 'g');
    -- Punctuation of other scripts, and what only joins or colours an emoji.
    t := regexp_replace(t, '[\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb\u00bf\u2000-\u206f\u20e3\u3000-\u3004\u3008-\u3040\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]',
                        ' ', 'g');
    -- The parser drops emoji: they become words that nobody writes.
    if t ~ '[\u2190-\u2bff\U0001f000-\U0001faff]' then
        t := (select string_agg(part[1] || case when part[2] = '' then '' else ' u' || to_hex(ascii(part[2])) || ' ' end, '' order by n)
              from regexp_matches(t, '([^\u2190-\u2bff\U0001f000-\U0001faff]*)([\u2190-\u2bff\U0001f000-\U0001faff]?)', 'g')
                   with ordinality as m (part, n));
    end if;
    return t;
end
$$;

-- What a task is found by: title (A) before description (B), as written before stemmed. A word as it is written counts
-- twice, so it comes before a mere relative. A word that is taken away again keeps the parts apart: no phrase begins at the
-- end of one and goes on in the next.
create function search.document(title text, description text) returns tsvector
language plpgsql immutable parallel safe as $$
declare
    title_words       text := search.words(title);
    description_words text := search.words(coalesce(description, ''));
begin
    return ts_delete(
        setweight(to_tsvector('search.written', title_words), 'A')
        || setweight(to_tsvector('search.written', 'carillongap0 ' || description_words), 'B')
        || setweight(to_tsvector('search.stemmed', 'carillongap0 ' || title_words), 'A')
        || setweight(to_tsvector('search.stemmed', 'carillongap0 ' || description_words), 'B'),
        'carillongap0');
end
$$;

-- What asks for the words of a text, one after the other; in `starts`, the last of them may go on.
create function search.phrase(given text) returns tsquery
language plpgsql immutable parallel safe strict as $$
declare
    w text := search.words(given);
begin
    return phraseto_tsquery('search.written', w) || phraseto_tsquery('search.stemmed', w);
end
$$;
create function search.starts(given text) returns tsquery
language plpgsql immutable parallel safe strict as $$
declare
    w       text := search.words(given);
    written text := phraseto_tsquery('search.written', w)::text;
begin
    if written = '' then
        return ''::tsquery;
    end if;
    return (written || ':*')::tsquery || phraseto_tsquery('search.stemmed', w);
end
$$;
-- PostgreSQL's NOTICE about a question without words is nobody's business.
alter function search.phrase(text) set client_min_messages = warning;
alter function search.starts(text) set client_min_messages = warning;

-- Titles sort as people sort them: "apple" before "Banana", "Task 2" before "Task 10".
create collation search.titles (provider = icu, locale = 'und-u-kn-true');

grant usage on schema search to carillon_api, carillon_recurrence_generator;

-- Whoever writes a task, its words follow.
alter table tasks.tasks
    add column search tsvector generated always as (search.document(title, description)) stored;

-- One index an order, owner first, so that a page is one stretch of it. Order of creation is the primary key's. Deleted
-- tasks are found by when that happened.
create index tasks_updated_idx on tasks.tasks (user_id, updated_at, id) where deleted_at is null;
create index tasks_due_idx on tasks.tasks (user_id, due_key, id) where deleted_at is null;
create index tasks_priority_idx on tasks.tasks
    (user_id, array_position(array['low', 'medium', 'high', 'urgent'], priority), id) where deleted_at is null;
-- The beginning of a title is enough to sort by, and bounds the index and the cursors.
create index tasks_title_idx on tasks.tasks (user_id, (left(title, 100)) collate search.titles, id)
    where deleted_at is null;
create index tasks_deleted_by_user_idx on tasks.tasks (user_id, deleted_at, id) where deleted_at is not null;

-- Words and tags, with the owner in the same index: what others wrote is never looked at. The list of what is still to be
-- merged in is kept short, since every search walks it.
create index tasks_search_idx on tasks.tasks using gin (user_id, tags, search)
    with (fastupdate = on, gin_pending_list_limit = 256) where deleted_at is null;
