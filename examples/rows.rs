//! One key, many rows: the books of an author. A value may be a list, and the rows of one query make many lists.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{collections::HashMap, sync::Arc};

use multiget::{Answers, AnyError, Batcher};

#[derive(Clone, Debug, PartialEq)]
struct Book {
    author: u32,
    title: &'static str,
}

/// The authors that there are, and their books in the order of the year.
struct Library {
    authors: Vec<u32>,
    books: Vec<Book>,
}

impl Library {
    /// `SELECT * FROM books WHERE author IN (…)`: the rows of all authors, mixed, and no row where there is no book.
    fn books_of(&self, authors: &[u32]) -> Vec<Book> {
        self.books.iter().filter(|book| authors.contains(&book.author)).cloned().collect()
    }

    /// `SELECT … FROM authors LEFT JOIN books …`: an author without books has a row too, which is empty.
    fn authors_with_books(&self, authors: &[u32]) -> Vec<(u32, Option<Book>)> {
        let empty = self.authors.iter().filter(|author| self.books.iter().all(|book| book.author != **author));
        let empty = empty.filter(|author| authors.contains(author)).map(|author| (*author, None));
        self.books_of(authors).into_iter().map(|book| (book.author, Some(book))).chain(empty).collect()
    }
}

/// Rows that know their key become lists; a key without any row is absent.
async fn load(library: Arc<Library>, authors: Vec<u32>) -> Result<Answers<u32, Vec<Book>>, AnyError> {
    let mut lists = HashMap::<u32, Vec<Book>>::new();
    for book in library.books_of(&authors) {
        lists.entry(book.author).or_default().push(book); // in the order of the rows
    }
    Ok(lists.into())
}

/// The query tells "no books" from "no such author", and so do the answers: an empty list, and none at all.
async fn load_exactly(library: Arc<Library>, authors: Vec<u32>) -> Result<Answers<u32, Vec<Book>>, AnyError> {
    let mut lists = HashMap::<u32, Vec<Book>>::new();
    for (author, book) in library.authors_with_books(&authors) {
        lists.entry(author).or_default().extend(book);
    }
    Ok(lists.into())
}

/// The query does not tell them apart, and callers do not care: everybody begins with an empty list.
async fn load_leniently(library: Arc<Library>, authors: Vec<u32>) -> Result<Answers<u32, Vec<Book>>, AnyError> {
    let mut lists: HashMap<_, _> = authors.iter().map(|author| (*author, Vec::new())).collect();
    for book in library.books_of(&authors) {
        lists.entry(book.author).or_default().push(book);
    }
    Ok(lists.into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let book = |author, title| Book { author, title };
    let library = Arc::new(Library {
        authors: vec![1, 2, 3], // the third has written nothing, and there is no fourth
        books: vec![book(1, "Emma"), book(2, "Dracula"), book(1, "Persuasion"), book(2, "The Lair of the White Worm")],
    });
    let of_the_first = || Some(vec![book(1, "Emma"), book(1, "Persuasion")]);

    let books = Batcher::builder().load_with(Arc::clone(&library), load)?;
    let lists = books.find_many([1, 3, 4]).await?;
    assert_eq!(lists, [of_the_first(), None, None]); // whoever has no rows is absent
    println!("no row, no value:     {} lists of three authors", lists.iter().flatten().count());

    let books = Batcher::builder().load_with(Arc::clone(&library), load_exactly)?;
    let lists = books.find_many([1, 3, 4]).await?;
    assert_eq!(lists, [of_the_first(), Some(Vec::new()), None]); // `get` of the fourth would be `NotFound`
    println!("empty or no value:    {} lists of three authors", lists.iter().flatten().count());

    let books = Batcher::builder().load_with(Arc::clone(&library), load_leniently)?;
    let lists = books.get_many([1, 3, 4]).await?; // `get`, since nobody is ever absent
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 0]);
    println!("always a list:        {} lists of three authors", lists.len());
    assert_eq!((books.stats().loads, books.stats().keys_sent), (1, 3));

    // What is wrong: `Answers::by` is for one row per key. Of several it keeps the first and counts the others.
    let first_only = Batcher::<u32, Book>::builder()
        .load_with(library, async |library, authors| Ok(Answers::by(library.books_of(&authors), |book| book.author)))?;
    assert_eq!(first_only.get_many([1, 2]).await?, [book(1, "Emma"), book(2, "Dracula")]);
    assert_eq!(first_only.stats().repeated, 2);
    println!("`Answers::by`:        {} rows were dropped", first_only.stats().repeated);
    Ok(())
}
