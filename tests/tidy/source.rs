//! Sources as the rules see them: code without comments and literals, functions, paths.

use std::collections::HashSet;

/// One file.
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// Lines of the file as it is.
    pub lines: usize,
    /// The text with comments and literals blanked; positions and lines stay.
    pub code: String,
    /// `code` with `#[cfg(test)]` modules blanked too.
    pub production: String,
    /// All of the file is test code.
    pub is_test: bool,
}

impl Source {
    /// The line of a position, from 1.
    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The code at a position is test code.
    pub fn is_test_code(&self, at: usize) -> bool {
        self.is_test || self.production.as_bytes()[at] != self.code.as_bytes()[at]
    }

    /// Where the production code has this piece: white space in the code does not matter, and a name in it is a
    /// whole name.
    pub fn find(&self, piece: &str) -> Vec<usize> {
        let code = self.production.as_bytes();
        let starts_with_name = piece.starts_with(is_name);
        let mut found = Vec::new();
        for start in (0..code.len()).filter(|&at| code[at] == piece.as_bytes()[0]) {
            if starts_with_name && start > 0 && is_name(char::from(code[start - 1])) {
                continue;
            }
            let mut at = start;
            let mut matches = true;
            for (i, wanted) in piece.bytes().enumerate() {
                // White space may separate tokens, but not letters of one name.
                let inside_name =
                    i > 0 && is_name(char::from(wanted)) && is_name(char::from(piece.as_bytes()[i - 1]));
                while !inside_name && at < code.len() && code[at].is_ascii_whitespace() {
                    at += 1;
                }
                if code.get(at) != Some(&wanted) {
                    matches = false;
                    break;
                }
                at += 1;
            }
            let whole =
                !piece.ends_with(is_name) || !code.get(at).is_some_and(|&next| is_name(char::from(next)));
            if matches && whole {
                found.push(start);
            }
        }
        found
    }

    /// The module's path from the crate, as `a::b`.
    pub fn module(&self) -> String {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").replace('/', "::")
    }

    /// A path of `super`s that ends at the crate's root.
    pub fn leaves_its_module(&self, path: &str) -> bool {
        let supers = path.split("::").take_while(|part| *part == "super").count();
        let has_inline_modules =
            functions_or_modules(&self.production, "mod").any(|item| item.body.is_some());
        supers > 0 && !has_inline_modules && supers >= self.module().split("::").count()
    }
}

/// Prepares files given as path and text.
pub fn read(files: Vec<(String, String)>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let mut test_modules = HashSet::new();
    for (path, text) in files {
        let code = scrub(&text);
        let (production, declared) = without_test_modules(&code);
        let folder =
            path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib").to_owned();
        test_modules.extend(declared.iter().map(|name| format!("{folder}/{name}")));
        let is_test = !path.starts_with("src/") && !path.starts_with("bench/");
        sources.push(Source { lines: text.lines().count(), path, code, production, is_test });
    }
    for source in &mut sources {
        let path = source.path.trim_end_matches(".rs");
        let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        source.is_test |= path.ends_with("/tests") || path.contains("/tests/");
        source.is_test |= parents.any(|parent| test_modules.contains(parent));
    }
    sources
}

/// Blanks comments and the contents of literals. Bytes outside ASCII become spaces, one for each.
pub fn scrub(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_literal_or_comment(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
            at += 1;
        }
    }
    String::from_utf8(out).expect("only ASCII is kept")
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none does.
fn end_of_literal_or_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_name = at > 0 && is_name(char::from(bytes[at - 1]));
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return end_of_block_comment(bytes, at);
    }
    let prefix = rest.iter().take(2).take_while(|byte| b"bcr".contains(byte)).count();
    let prefix = if in_name { 0 } else { prefix };
    let raw = rest[..prefix].contains(&b'r');
    let hashes = if raw { rest[prefix..].iter().take_while(|&&byte| byte == b'#').count() } else { 0 };
    match rest.get(prefix + hashes) {
        Some(b'"') if raw => {
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let body = at + prefix + hashes + 1;
            let end = bytes[body..].windows(close.len()).position(|window| window == close);
            end.map_or(bytes.len(), |end| body + end + close.len())
        }
        Some(b'"') => end_of_quoted(bytes, at + prefix + 1, b'"'),
        Some(b'\'') if !raw => end_of_char(bytes, at, at + prefix + 1),
        _ => at,
    }
}

fn end_of_block_comment(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (1, at + 2);
    while depth > 0 && end < bytes.len() {
        match &bytes[end..] {
            [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
            [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
    }
    end
}

fn end_of_quoted(bytes: &[u8], body: usize, quote: u8) -> usize {
    let mut end = body;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

/// A character literal, or a lifetime, which is no literal.
fn end_of_char(bytes: &[u8], start: usize, body: usize) -> usize {
    let is_literal = match bytes.get(body) {
        Some(b'\\') => true,
        Some(byte) if byte.is_ascii() => bytes.get(body + 1) == Some(&b'\''),
        _ => true, // beyond ASCII
    };
    if is_literal { end_of_quoted(bytes, body, b'\'') } else { start }
}

/// A function or module: its name and where its body is.
pub struct Item<'a> {
    pub name: &'a str,
    start: usize,
    /// From the brace to behind its counterpart; none for a declaration.
    body: Option<(usize, usize)>,
}

/// A function with a body.
pub struct Function<'a> {
    pub name: &'a str,
    /// Position of the `fn`.
    pub start: usize,
    /// Of the `fn`, from 1.
    pub line: usize,
    /// To the closing brace.
    pub lines: usize,
}

/// All functions with a body, also inside others.
pub fn functions(code: &str) -> Vec<Function<'_>> {
    let with_body =
        functions_or_modules(code, "fn").filter_map(|item| Some((item.name, item.start, item.body?)));
    let newlines = |from: usize, to: usize| code[from..to].matches('\n').count();
    with_body
        .map(|(name, start, (_, end))| Function {
            name,
            start,
            line: newlines(0, start) + 1,
            lines: newlines(start, end) + 1,
        })
        .collect()
}

fn functions_or_modules<'a>(code: &'a str, keyword: &'a str) -> impl Iterator<Item = Item<'a>> {
    position_of_word(code, keyword).into_iter().filter_map(move |start| {
        let rest = &code[start + keyword.len()..];
        let name_at = start + keyword.len() + (rest.len() - rest.trim_start().len());
        let name_bytes = code[name_at..].find(|letter| !is_name(letter)).unwrap_or(code.len() - name_at);
        let name = &code[name_at..name_at + name_bytes];
        (!name.is_empty()).then(|| Item { name, start, body: body_after(code, name_at + name_bytes) })
    })
}

/// The braces that follow a signature: the first `{` outside parentheses and brackets, unless `;` comes first.
fn body_after(code: &str, from: usize) -> Option<(usize, usize)> {
    let mut depth = 0_i32;
    let mut open = None;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 && open.is_none() => return None,
            b'{' => {
                if depth == 0 && open.is_none() {
                    open = Some(at);
                }
                depth += 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return open.map(|open| (open, at + 1));
                }
            }
            _ => {}
        }
        if depth < 0 {
            return None; // a `fn` type at the end of a list
        }
    }
    None
}

/// The code with inline `#[cfg(test)]` modules and items blanked, and the names of test modules in other files.
fn without_test_modules(code: &str) -> (String, Vec<String>) {
    let mut production = code.to_owned().into_bytes();
    let mut declared = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]").chain(code.match_indices("#[cfg(all(test")) {
        // The item ends with its braces, or with its semicolon when that comes first.
        let from = at + attribute.len();
        let end = match body_after(code, from) {
            Some((_, end)) => end,
            None => code[from..].find(';').map_or(code.len(), |semicolon| from + semicolon + 1),
        };
        let item = &code[at..end];
        if let Some(module) = functions_or_modules(item, "mod").find(|module| module.body.is_none()) {
            declared.push(module.name.to_owned());
        }
        production[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    (String::from_utf8(production).expect("only ASCII is changed"), declared)
}

/// Every path of at least two parts, `{}` groups expanded, each with the position of its last part.
pub fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let before = code[..at].trim_end();
        let starts_name = code[at..].starts_with(is_name) && !code[..at].ends_with(is_name);
        if starts_name && !before.ends_with("::") {
            at = read_tree(code, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found.retain(|(_, path)| path.contains("::"));
    found
}

/// Reads `name`, `name::tree` or `{tree, tree}` at `at`, adds the paths to `found`, and says where it ends.
fn read_tree(code: &str, at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let at = skip_space(code, at);
    if code[at..].starts_with('{') {
        let mut next = at + 1;
        loop {
            next = skip_space(code, next);
            match code[next..].chars().next() {
                Some('}') => return next + 1,
                Some(',') => next += 1,
                Some(letter) if is_name(letter) || letter == '{' => {
                    next = read_tree(code, next, prefix, found)
                }
                Some(_) => next += 1,
                None => return next,
            }
        }
    }
    let bytes = code[at..].find(|letter| !is_name(letter)).unwrap_or(code.len() - at);
    let path = format!("{prefix}{}", &code[at..at + bytes]);
    let end = at + bytes;
    let after = skip_space(code, end);
    if let Some(rest) = code[after..].strip_prefix("::") {
        let next = skip_space(code, code.len() - rest.len());
        if code[next..].starts_with(|letter| is_name(letter) || letter == '{') {
            return read_tree(code, next, &format!("{path}::"), found);
        }
    }
    found.push((at, path));
    end.max(at + 1)
}

fn skip_space(code: &str, at: usize) -> usize {
    code.len() - code[at..].trim_start().len()
}

/// Where a word stands alone.
pub fn position_of_word(code: &str, word: &str) -> Vec<usize> {
    let alone = |at: usize| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(is_name) && !after.starts_with(is_name) && !before.ends_with("r#")
    };
    code.match_indices(word).map(|(at, _)| at).filter(|&at| alone(at)).collect()
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}
