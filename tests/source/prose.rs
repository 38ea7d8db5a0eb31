//! How comments are written.

use crate::source::File;

/// What is counted of comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prose {
    /// Comments: lines of them that follow each other are one.
    pub comments: usize,
    /// Their words.
    pub words: usize,
    /// *who*, *whoever*, *whose*, *whom*.
    pub who: usize,
    /// *nobody*.
    pub nobody: usize,
    /// Comments that begin with *who*, *whoever* or *whose*.
    pub begin_with_who: usize,
    /// Comments that begin with *what*.
    pub begin_with_what: usize,
    /// Comments that begin with *it*, *they*, *that* or *the same*.
    pub begin_with_it: usize,
}

impl Prose {
    /// Adds what a file says.
    pub fn add(&mut self, file: &File) {
        let mut last = None;
        for (at, line) in file.lines() {
            let Some(comment) = comment(line) else {
                continue;
            };
            let begins = last.is_none_or(|last| last + 1 != at);
            last = Some(at);
            self.add_line(comment, begins);
        }
    }

    fn add_line(&mut self, comment: &str, begins: bool) {
        let words = comment.split(|character: char| !character.is_alphabetic());
        let words: Vec<_> = words
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        self.words += words.len();
        for word in &words {
            match &**word {
                "who" | "whoever" | "whose" | "whom" => self.who += 1,
                "nobody" => self.nobody += 1,
                _ => {}
            }
        }
        if !begins {
            return;
        }
        self.comments += 1;
        let two = [words.first(), words.get(1)].map(|word| word.map_or("", String::as_str));
        match two {
            ["who" | "whoever" | "whose", _] => self.begin_with_who += 1,
            ["what", _] => self.begin_with_what += 1,
            ["it" | "they" | "that", _] | ["the", "same"] => self.begin_with_it += 1,
            _ => {}
        }
    }

    /// So many of each thousand words.
    #[expect(clippy::cast_precision_loss, reason = "counts of words")]
    pub fn of_thousand(&self, count: usize) -> f64 {
        count as f64 * 1000.0 / self.words.max(1) as f64
    }
}

/// What a line says, if it is all comment.
pub fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let marks = ["///", "//!", "//"];
    marks.iter().find_map(|mark| line.strip_prefix(mark))
}

/// The width of code and comments. rustfmt keeps that of code.
pub const WIDTH: usize = 100;

/// Whether a line of comment is too wide. Tables, drawings and addresses cannot be wrapped.
pub fn is_too_wide(line: &str) -> bool {
    let may_be_wider = ["| ", "://", "──"].iter().any(|mark| line.contains(mark));
    comment(line).is_some() && !may_be_wider && line.chars().count() > WIDTH
}
