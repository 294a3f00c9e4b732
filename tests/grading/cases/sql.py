"""Cases of the grader `sql`: options, then (score, truth, output), each on the tables of `PROBLEM`."""

PROBLEM = """CREATE TABLE book (
    id INTEGER PRIMARY KEY, title VARCHAR(80), author_id INT, year INT, price DECIMAL(6, 2)
);
CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT, country TEXT);
INSERT INTO author VALUES (1, 'Ada', 'UK'), (2, 'Bao', 'China'), (3, 'Cem', 'Turkey'), (4, 'Di; x', 'UK');
INSERT INTO book VALUES (1, 'Red', 1, 1999, 5.5), (2, 'Blue', 1, 2005, 7), (3, 'Green', 2, 2010, 7),
    (4, 'Gold', 3, 2010, 12.25), (5, '蓝', 2, 2020, NULL);

Which books did she write?"""

YEARS = "SELECT title FROM book WHERE year >= 2010"
JOIN = "SELECT name, COUNT(*) FROM author JOIN book ON author.id = book.author_id GROUP BY name"
ORDERED = "SELECT title FROM book ORDER BY year DESC, title"
AVERAGE = "SELECT AVG(price) FROM book"

GROUPS = [
    (
        {},
        [
            (1, YEARS, YEARS),
            (1, YEARS, YEARS + ";"),
            (1, YEARS, YEARS.lower()),
            (1, YEARS, f"```sql\n{YEARS};\n```"),
            (1, YEARS, f"Here is the query:\n```sql\n{YEARS}\n```"),
            (1, YEARS, "SELECT title FROM book WHERE NOT year < 2010"),
            (1, YEARS, "SELECT title FROM book WHERE year > 2009 ORDER BY title"),
            (1, YEARS, "SELECT b.title AS name FROM book AS b WHERE b.year >= 2010"),
            (1, YEARS, 'SELECT "title" FROM "book" WHERE "year" >= 2010'),
            (1, YEARS, "SELECT `title` FROM [book] WHERE year >= 2010"),
            (1, YEARS, "SELECT title FROM book WHERE year IN (2010, 2020)"),
            (1, YEARS, "WITH new AS (SELECT * FROM book WHERE year >= 2010) SELECT title FROM new"),
            (1, YEARS, "SELECT title -- new ones\nFROM book WHERE year >= 2010"),
            (0, YEARS, "SELECT title FROM book WHERE year > 2010"),
            (0, YEARS, "SELECT title FROM book"),
            (0, YEARS, "SELECT title, year FROM book WHERE year >= 2010"),
            (0, YEARS, "SELECT id FROM book WHERE year >= 2010"),
            (0, YEARS, "SELECT title FROM books WHERE year >= 2010"),
            (0, YEARS, "SELECT name FROM book WHERE year >= 2010"),
            (0, YEARS, "SELECT title FROM book WHERE year >= ２０１０"),
            (0, YEARS, "SELECT title FROM book WHERE year >= 2010 I hope this helps"),
            (0, YEARS, "SELECT title FROM book WHERE year >= 2010; SELECT 1"),
            (0, YEARS, "SELEC title FROM book"),
            (0, YEARS, "Red, Blue"),
            (0, YEARS, ""),
            (0, YEARS, ";"),
            (0, YEARS, " \n"),
            (0, YEARS, "DROP TABLE book"),
            (0, YEARS, "DELETE FROM book"),
            (0, YEARS, "UPDATE book SET year = 2010"),
            (0, YEARS, "INSERT INTO book (id) VALUES (9)"),
            (0, YEARS, "CREATE TABLE x (y)"),
            (0, YEARS, "ATTACH DATABASE 'x.db' AS x"),
            (0, YEARS, "PRAGMA table_info(book)"),
            (0, YEARS, "SELECT load_extension('x')"),
            (0, YEARS, "SELECT zeroblob(2000000000)"),
            (0, YEARS, "SELECT name FROM pragma_table_info('book')"),
            (
                0,
                YEARS,
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
            ),
            (1, JOIN, JOIN),
            (1, JOIN, "SELECT a.name, COUNT(b.id) FROM book b, author a WHERE a.id = b.author_id GROUP BY a.id"),
            (0, JOIN, "SELECT name, COUNT(*) FROM author LEFT JOIN book ON author.id = author_id GROUP BY name"),
            (0, JOIN, "SELECT COUNT(*), name FROM author JOIN book ON author.id = author_id GROUP BY name"),
            (0, JOIN, "SELECT DISTINCT name, 2 FROM author JOIN book ON author.id = author_id"),
            (1, ORDERED, ORDERED),
            (0, ORDERED, "SELECT title FROM book ORDER BY year, title"),
            (0, ORDERED, "SELECT title FROM book"),
            (1, ORDERED, "SELECT title FROM book ORDER BY -year, title ASC"),
            (1, AVERAGE, AVERAGE),
            (1, AVERAGE, "SELECT SUM(price) / COUNT(price) FROM book"),
            (0, AVERAGE, "SELECT SUM(price) / COUNT(*) FROM book"),
            (0, AVERAGE, "SELECT 7.9"),
            (1, "SELECT MAX(price) FROM book", "SELECT price FROM book ORDER BY price DESC LIMIT 1"),
            (1, "SELECT COUNT(*) FROM author WHERE country = 'UK'", "SELECT 2"),
            (1, "SELECT price FROM book WHERE id = 2", "SELECT 7.0"),
            (0, "SELECT price FROM book WHERE id = 2", "SELECT '7'"),
            (1, "SELECT author_id FROM book", "SELECT author_id FROM book ORDER BY 1"),
            (0, "SELECT author_id FROM book", "SELECT DISTINCT author_id FROM book"),
            (1, "SELECT title FROM book WHERE title = '蓝'", "SELECT '蓝'"),
        ],
    ),
    ({"answer": "after 'SQL:'"}, [(1, YEARS, f"Filter by year.\nSQL: {YEARS}"), (0, YEARS, YEARS)]),
]
