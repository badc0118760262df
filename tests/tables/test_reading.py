"Tables as people have them: what is found, what is read, what is refused"
import bz2
import gzip
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_nb.errors import UserError
from mlops_nb.models import signature
from mlops_nb.models.features import TimeFeatures
from mlops_nb.tables.layout import Layout, find_encoding, find_layout
from mlops_nb.tables.profile import sample_parquet
from mlops_nb.tables.reading import describe_reading, find_reading, write_parquet


def read(path: Path, **known) -> tuple[dict[str, str], pd.DataFrame, str]:
    "Kinds, the table as a stage reads it again, and how it was read"
    found = find_reading(path, **known)
    kinds = {name: str(kind) for name, kind in found.kinds.items()}
    target = path.parent / "again.parquet"
    write_parquet(path, found.layout, kinds, target)
    target.rename(aside := path.parent / ".again.parquet")
    return kinds, pd.read_parquet(aside), describe_reading(found)


@pytest.mark.parametrize("text, encoding, said", [
    ("größe;Stadt\n0,5;Zürich\n-1,25;Genève\n", "cp1252", "; separated, cp1252, decimal comma"),
    ("größe;Stadt\n0,5;Zürich\n-1,25;Genève\n", "utf-8", "; separated, utf-8, decimal comma"),
    ("größe;Stadt\n0,5;Zürich\n-1,25;Genève\n", "utf-8-sig", "; separated, utf-8-sig, decimal comma"),
    ("größe\tStadt\n0.5\tZürich\n-1.25\tGenève\n", "utf-16", "tab separated, utf-16"),
    ("größe|Stadt\n0.5|Zürich\n-1.25|Genève\n", "utf-8", "| separated, utf-8"),
])
def test_delimiters_decimals_and_encodings_are_found(tmp_path, text, encoding, said):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    kinds, table, how = read(tmp_path / "t.csv")
    assert how == f"read as {said}" and kinds["Stadt"] == "text"
    assert table["größe"].tolist() == [0.5, -1.25] and table.Stadt.tolist() == ["Zürich", "Genève"]


@pytest.mark.parametrize("text, encoding", [
    ("Größe (m²);Raum in m³;Preis €;Ort\n80,5;200;2000;Köln\n", "cp1252"),
    ("site;area in m²;°C\nA;80;21,5\n", "cp1252"), ("flow in m³/h;x\n1;2\n", "cp1252"),
    ("price in £;x\n3;4\n", "cp1252"), ("width in µm;x\n1;2\n", "cp1252"), ("name;share\nJosé;½\n", "cp1252"),
    ("ilość;miasto\n0,5;Łódź\n-1,25;stół żółty\n", "cp1250"), ("miasto\nŁask\nŁuków\nKalisz\nMława\n", "cp1250"),
    ("город;цена\nМосква;три\nКазань;пять\n" * 9, "cp1251"), ("都市;値段\n東京;三千\n大阪;五百\n" * 9, "cp932"),
    ("城市;价格\n北京;三千\n上海;五百\n" * 9, "gb18030"), ("πόλη;τιμή\nΑθήνα;τρία\nΠάτρα;πέντε\n" * 9, "cp1253"),
])
def test_a_sign_or_a_unit_makes_no_file_of_another_language(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert find_encoding(tmp_path / "t.csv") == encoding


@pytest.mark.parametrize("values, kind, first", [
    (["$1,234.50", "$2.00"], "number 1,234.5", 1234.5),
    (["1.234,50 €", "2,00 €"], "number 1.234,5", 1234.5),
    (["1 234 567", "1"], "number 1,234.5", 1234567),
    (["1'234.5", "2"], "number 1,234.5", 1234.5),
    (["(5)", "7"], "number 1,234.5", -5),
    (["True", "", "FALSE"], "boolean", True),
    (["31/01/2026", "01/02/2026"], "time %d/%m/%Y", pd.Timestamp("2026-01-31")),
    (["01/31/2026 3:05 PM", "02/01/2026 1:00 AM"], "time %m/%d/%Y %I:%M %p", pd.Timestamp("2026-01-31T15:05")),
    (["Jan 01 2024", "Feb 01 2024"], "time %b %d %Y", pd.Timestamp("2024-01-01")),
    (["2026-01-31T12:00:00+02:00"], "time iso", pd.Timestamp("2026-01-31T10:00")),
    (["1:30:00", "0:00:05"], "duration", 5400),
    (["01067", "80331"], "text", "01067"),
    (["yes", "no"], "text", "yes"),
])
def test_kinds_of_values_are_found(tmp_path, values, kind, first):
    pd.DataFrame({"v": values, "other": "x"}).to_csv(tmp_path / "t.csv", index=False)
    kinds, table, _ = read(tmp_path / "t.csv")
    assert kinds["v"] == kind and table.v[0] == first


MOMENTS = pd.date_range("2025-03-28 06:00", periods=300, freq="7h")


@pytest.mark.parametrize("name, write", [
    ("iso", lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}"), ("blank", lambda at: f"{at:%Y-%m-%d %H:%M}"),
    ("zone", lambda at: f"{at + pd.Timedelta('2h'):%Y-%m-%dT%H:%M:%S+02:00}"),
    ("German", lambda at: f"{at:%d.%m.%Y %H:%M}"), ("American", lambda at: f"{at:%m/%d/%Y %I:%M %p}"),
    ("slashes", lambda at: f"{at:%Y/%m/%d %H:%M:%S}"), ("named", lambda at: f"{at:%d %b %Y %H:%M}"),
    ("epoch s", lambda at: f"{at.timestamp():.0f}"), ("epoch ms", lambda at: f"{at.timestamp() * 1e3:.0f}"),
    ("epoch us", lambda at: f"{at.timestamp() * 1e6:.0f}"), ("date", lambda at: f"{at:%d.%m.%Y}"),
])
def test_a_request_gives_the_features_of_training_however_the_table_wrote_its_times(tmp_path, name, write):
    (tmp_path / "t.csv").write_text("created_at;x\n" + "".join(f"{write(at)};1\n" for at in MOMENTS))
    kinds, table, _ = read(tmp_path / "t.csv")
    assert kinds["created_at"].startswith("time")
    moments = MOMENTS.floor("D") if name == "date" else MOMENTS
    trained = TimeFeatures().fit(table[["created_at"]])
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%SZ", "%Y-%m-%dT%H:%M+00:00"):
        asked = [at.strftime(form) for at in moments]
        assert all(signature.fits(text, "datetime") for text in asked)
        requested = pd.DataFrame({"created_at": signature.read_dates(asked)})
        assert (trained.transform(requested) == trained.transform(table[["created_at"]])).all()


@pytest.mark.parametrize("text, moment", [
    ("9999-12-31", "9999-12-31"), ("0001-01-01", "0001-01-01"), ("2026-W05-1", "2026-01-26"),
    ("2026-01-01T06:00:00,5", "2026-01-01T06:00:00.5"), ("2026-01-01T01:00+02:00", "2025-12-31T23:00"),
])
def test_every_date_that_a_request_may_hold_can_be_read(text, moment):
    assert signature.fits(text, "datetime")
    found = signature.read_dates([text, None])
    assert found.iloc[0] == pd.Series([moment]).astype("datetime64[us]").iloc[0] and pd.isna(found.iloc[1])
    assert not signature.fits("0001-01-01T00:00+02:00", "datetime"), "before the first year"


def test_an_order_of_day_and_month_that_nobody_can_know_is_yours_to_say(tmp_path):
    (tmp_path / "t.csv").write_text("v,w\n1/2/2026,a\n2/3/2026,b\n")
    assert read(tmp_path / "t.csv")[2].endswith("dates month first")
    _, table, how = read(tmp_path / "t.csv", dates="day-first")
    assert how.endswith("dates day first") and table.v[0] == pd.Timestamp("2026-02-01")


def test_seconds_since_1970_are_a_time_where_the_name_or_you_say_so(tmp_path):
    (tmp_path / "t.csv").write_text("created_at,size\n1700000000,1700000000\n1700003600,1700000001\n")
    assert read(tmp_path / "t.csv")[0] == {"created_at": "time epoch s", "size": "number"}
    assert read(tmp_path / "t.csv", time="size")[0]["size"] == "time epoch s"


def test_a_stray_value_costs_its_row_and_a_warning_not_the_column(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i}.5,a\n" for i in range(598)) + "inf,a\n?,b\n")
    found = find_reading(tmp_path / "t.csv")
    assert str(found.kinds["x"]) == "number" and found.sample.x.isna().sum() == 2
    assert [str(stray) for stray in found.strays] == [
        "x: 2 values are no number and count as missing, first 'inf' in row 599"
    ]


def test_letters_among_few_numbers_are_categories(tmp_path):
    (tmp_path / "t.csv").write_text("grade\n" + "1\n2\n3\n" * 40 + "A\n")
    assert str(find_reading(tmp_path / "t.csv").kinds["grade"]) == "text"


def packed(folder: Path, how: str) -> Path:
    "The same two rows in another form"
    text, path = b"a,b\n1,x\n2,y\n", folder / f"t.csv.{how}"
    if how == "gz": path.write_bytes(gzip.compress(text))
    elif how == "bz2": path.write_bytes(bz2.compress(text))
    elif how == "zip":
        with zipfile.ZipFile(path, "w") as archive: archive.writestr("inside.csv", text)
    elif how == "jsonl": (path := folder / "t.jsonl").write_text('{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n')
    elif how == "json": (path := folder / "t.json").write_text('[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]')
    elif how == "parquet": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_parquet(path := folder / "t.parquet")
    else:
        (path := folder / "many files").mkdir()
        for name, rows in (("1.csv", b"1,x\n"), ("2.csv", b"2,y\n")): (path / name).write_bytes(b"a,b\n" + rows)
    return path


@pytest.mark.parametrize("above, said, row", [
    ("# exported by hand\n# by, all, of, us\n", ", from line 3", "1,2,3"),
    ("Report of May,,\n\n", ", from line 3", "1,2,3"), ("Report of May\n", ", from line 2", "1,2,3"),
    ("\n\n", ", from line 3", "1,2,3"), ("", "", "1,2,3"), ("", "", "1,,"),
])
def test_titles_and_remarks_above_a_table_are_left_out(tmp_path, above, said, row):
    (tmp_path / "t.csv").write_text(above + "a,#b,c\n" + f"{row}\n4,5,6\n" * 20)
    kinds, table, how = read(tmp_path / "t.csv")
    assert how == f"read as , separated, utf-8{said}" and [*table] == ["a", "#b", "c"] and len(table) == 40
    assert table.a.tolist()[:2] == [1, 4] and [*kinds.values()] == ["number"] * 3


def test_a_name_that_is_missing_leaves_the_header_where_it_is(tmp_path):
    (tmp_path / "t.csv").write_text(",y\n" + "1,2.5\n2,3.5\n" * 20)
    assert [*read(tmp_path / "t.csv")[0]] == ["column_1", "y"]


def test_marks_of_missing_values_are_found_among_numbers(tmp_path):
    rows = [f"{'--' if i % 7 == 0 else 'n.a.' if i % 11 == 0 else i / 4},{'-' if i % 2 else 'up'}" for i in range(200)]
    (tmp_path / "t.csv").write_text("x,way\n" + "\n".join(rows) + "\n")
    kinds, table, how = read(tmp_path / "t.csv")
    assert kinds == {"x": "number", "way": "text"} and how == "read as , separated, utf-8, -- and n.a. for missing"
    missing = [i % 7 == 0 or i % 11 == 0 for i in range(200)]
    assert table.x.isna().tolist() == missing and {*table.way} == {"-", "up"} and table.x[1] == .25


def workbook(path: Path, sheets: dict[str, list[list]]) -> None:
    "Write a workbook of Excel: rows of numbers and text by sheet"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    def cell(value) -> str:
        return f"<c><v>{value}</v></c>" if isinstance(value, (int, float)) else (
            f'<c t="inlineStr"><is><t>{value}</t></is></c>')
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    links = "".join(f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="sheet{n}.xml"/>'
                    for n in range(1, len(sheets) + 1))
    def relations(links: str) -> str:
        main = "http://schemas.openxmlformats.org/package/2006/relationships"
        return f'<Relationships xmlns="{main}">{links}</Relationships>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("_rels/.rels", relations(f'<Relationship Id="r" Type="{office}/officeDocument" '
                                               'Target="xl/workbook.xml"/>'))
        names = f'xmlns="{main}" xmlns:r="{office}"'
        book.writestr("xl/workbook.xml", f"<workbook {names}><sheets>{listed}</sheets></workbook>")
        book.writestr("xl/_rels/workbook.xml.rels", relations(links))
        for n, rows in enumerate(sheets.values(), 1):
            written = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
            book.writestr(f"xl/sheet{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{written}</sheetData></worksheet>')


ROWS = [["a", "b", "c"], *([n, n / 2, "x"] for n in range(30))]


@pytest.mark.parametrize("sheets, said", [
    ({"Data": ROWS}, "Excel, the first sheet"), ({"Data": ROWS, "More": ROWS + ROWS}, "Excel, the first sheet"),
    ({"Notes": [["of May"]], "Small": ROWS[:4], "Data": ROWS}, "Excel, sheet Data"),
    ({"Data": [["Report of May"], [], ["by hand"], *ROWS]}, "Excel, the first sheet, from row 4"),
    ({"Data": [[], [], *ROWS]}, "Excel, the first sheet, from row 3"),
])
def test_the_table_of_a_workbook_is_found(tmp_path, sheets, said):
    workbook(tmp_path / "t.xlsx", sheets)
    kinds, table, how = read(tmp_path / "t.xlsx")
    assert how == f"read as {said}" and kinds == {"a": "number", "b": "number", "c": "text"}
    assert table.b.tolist() == [n / 2 for n in range(30)]


def test_types_of_parquet_are_kept(tmp_path):
    import duckdb
    values = {"t": "TIME '01:02:03'", "d": "1.25::DECIMAL(9, 2)", "b": "'\\x01'::BLOB", "l": "[1]",
              "day": "DATE '2026-01-31'", "at": "TIMESTAMPTZ '2026-01-31 12:00:00+02'"}
    columns = ", ".join(f"{value} AS {name}" for name, value in values.items())
    duckdb.sql(f"COPY (SELECT {columns} FROM range(3)) TO '{tmp_path}/t.parquet'")
    found = find_reading(tmp_path / "t.parquet")
    kinds = {name: kind.name for name, kind in found.kinds.items()}
    assert kinds == {"t": "duration", "d": "number", "day": "time", "at": "time"} and found.odd == ("b", "l")
    assert (found.sample.t[0], found.sample.d[0]) == (3723, 1.25)
    assert found.sample["at"][0] == pd.Timestamp("2026-01-31T10:00")


@pytest.mark.parametrize("how", ["gz", "bz2", "zip", "jsonl", "json", "parquet", "folder"])
def test_other_forms_of_the_same_table_read_alike(tmp_path, how):
    (tmp_path / "it's [1] here").mkdir()
    path = packed(tmp_path / "it's [1] here", how)
    kinds, table, _ = read(path)
    assert kinds == {"a": "number", "b": "text"}
    assert table.a.tolist() == [1, 2] and table.b.tolist() == ["x", "y"]


@pytest.mark.parametrize("name, content, message", [
    ("t.csv", b"", "is empty"),
    ("t.csv", b"\n\n", "is empty"),
    ("t.csv", b"a,b\n", "has no rows"),
    ("t.csv", b"a,b,a\n1,2,3\n", "2 columns are called a (columns 1, 3)"),
    ("t.csv", b"size,Size\n1,2\n", "2 columns are called size and Size"),
    ("t.parquet", b"no", "cannot be read"),
    ("t.csv.gz", b"no", "cannot be read"),
    ("t.xlsx", b"no", "cannot be read"),
    ("t.pdf", b"no", "ends with .pdf"),
    ("t", b"a,b\n1,2\n", "has a name without an ending"),
    ("t.json", b'{"a": ', "cannot be read"),
    ("t.json", b"{}", "holds no records"),
    ("t.json", b"[[1, 2], [3, 4]]", "holds no records"),
])
def test_what_is_no_table_is_refused_with_one_message(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error: find_reading(tmp_path / name)
    assert message in str(error.value) and name in str(error.value)


def test_lines_with_another_number_of_fields_are_told(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 50 + "1,2,3\n" + "5,6\n" * 50)
    found = find_reading(tmp_path / "t.csv")
    assert found.lost == "1 line has another number of fields than the header, left out: the first is line 52"


@pytest.mark.parametrize("before, lines", [(0, 300), (100, 201)])
def test_a_quote_that_is_not_closed_is_refused_with_its_line(tmp_path, before, lines):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n" * before + '1,"oops\n' + "1,z\n" * (lines - 1))
    with pytest.raises(UserError, match=f"line {before + 2}: a quote opens here and is not closed; {lines} lines"):
        find_reading(tmp_path / "t.csv")


def test_a_quote_that_takes_a_few_lines_along_is_told_with_their_number(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n" * 100 + '1,"one\ntwo"d\n' + "1,z\n" * 100)
    assert find_reading(tmp_path / "t.csv").lost.startswith("2 lines have another number of fields")


def test_a_file_that_two_systems_wrote_to_is_read_whole(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\r\n" + b"1,x\r\n" * 100 + b'1,"y\nz"\n' + b"1,y\n" * 199)
    _, table, _ = read(tmp_path / "t.csv")
    assert len(table) == 300 and {*table.b} == {"x", "y", "y\nz"}


def test_lines_of_two_encodings_are_read_each_as_it_is_written(tmp_path):
    other, words = "cp1252", ("Köln", "Genève")
    lines = [f"{word};{number}\n" for number, word in enumerate(words * 40)]
    (tmp_path / "t.csv").write_bytes(b"ort;x\n" + b"".join(
        line.encode(other if number % 3 == 0 else "utf-8") for number, line in enumerate(lines)))
    kinds, table, how = read(tmp_path / "t.csv")
    assert how == f"read as ; separated, utf-8 with lines of {other}" and kinds == {"ort": "text", "x": "number"}
    assert table.ort.tolist() == [*words * 40]
    lines = "".join(f'{{"ort": "{word}", "x": {number}}}\n' for number, word in enumerate(words)).splitlines(True)
    (tmp_path / "t.jsonl").write_bytes(lines[0].encode() + lines[1].encode(other))
    assert read(tmp_path / "t.jsonl")[1].ort.tolist() == [*words]


def test_a_name_that_two_columns_of_a_sheet_have_is_refused(tmp_path):
    workbook(tmp_path / "t.xlsx", {"Data": [["a", "y", "y"], *([n, n, 1] for n in range(30))]})
    with pytest.raises(UserError, match=r"2 columns are called y \(columns 2, 3\)"): find_reading(tmp_path / "t.xlsx")
    workbook(tmp_path / "t.xlsx", {"Data": [["a", "a.1", "y"], *([n, n, 1] for n in range(30))]})
    assert [*find_reading(tmp_path / "t.xlsx").kinds] == ["a", "a.1", "y"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    import mlops_nb.tables.reading as reading
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    take = reading.take_sample

    def write_meanwhile(source):
        rows = take(source)
        (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
        return rows
    monkeypatch.setattr(reading, "take_sample", write_meanwhile)
    with pytest.raises(UserError, match="changed while it was read"): find_reading(tmp_path / "t.csv")


def test_what_was_recorded_is_read_and_nothing_is_guessed_again(tmp_path):
    (tmp_path / "old.csv").write_text("a;b\n0,5;x\n1,5;y\n")
    (tmp_path / "new.csv").write_text("b;a\nx;7\ny;8,5\n")
    found = find_reading(tmp_path / "old.csv")
    kinds = {name: str(kind) for name, kind in found.kinds.items()}
    write_parquet(tmp_path / "new.csv", found.layout, kinds, tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet").a.tolist() == [7, 8.5]
    (tmp_path / "bad.csv").write_text("b;a\nx;seven\ny;8,5\n")
    with pytest.raises(UserError, match="'seven' in row 1"):
        write_parquet(tmp_path / "bad.csv", found.layout, kinds, tmp_path / "bad.parquet")
    assert not (tmp_path / "bad.parquet").exists()


def test_a_file_of_another_format_than_the_recorded_one_is_refused(tmp_path):
    table = pd.DataFrame({"x": [1.0]})
    table.to_parquet(tmp_path / "later.parquet")
    with pytest.raises(UserError, match="later.parquet is parquet, where csv was recorded"):
        write_parquet(tmp_path / "later.parquet", Layout(), {"x": "number"}, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "folder"])
def test_rows_keep_the_order_in_which_they_stand(tmp_path, form, every):
    table = pd.DataFrame({"row": np.arange(100_000.0), "kind": np.resize(["a", "b", "c"], 100_000)})
    path, edges = tmp_path / f"t.{form}", [0, 10, 20_000, 20_003, 100_000]
    if form == "csv": table.to_csv(path, index=False)
    elif form == "jsonl": table.to_json(path, orient="records", lines=True)
    elif form == "parquet": table.to_parquet(path, index=False, row_group_size=3000)
    else: path.mkdir()
    if form == "folder":
        for number, ends in enumerate(pairwise(edges)):
            table.iloc[slice(*ends)].to_parquet(path / f"{number}.parquet", index=False)
    kinds = {"row": "number", "kind": "text"}
    for name in ("one", "two"): write_parquet(path, find_layout(path), kinds, tmp_path / name, every=every)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "one"), table[::every].reset_index(drop=True))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("seed", [None, 0])     # In the order of time as they stand, or shuffled
def test_rows_are_in_the_order_of_time_and_equal_times_stay_as_they_were(tmp_path, seed, every):
    rows, days = 50_000, pd.date_range("2026-01-01", periods=500)
    table = pd.DataFrame({"when": days.repeat(rows // 500), "row": np.arange(rows * 1.0)})
    if seed is not None: table = table.sample(frac=1, random_state=seed, ignore_index=True)
    table.loc[[3, 40_000], "when"] = pd.NaT
    table.to_parquet(tmp_path / "t.parquet", index=False, row_group_size=3000)
    layout, kinds = find_layout(tmp_path / "t.parquet"), {"when": "time iso", "row": "number"}
    with pytest.raises(UserError, match="when has no time that can be read in 2 rows, first in row 4"):
        write_parquet(tmp_path / "t.parquet", layout, kinds, tmp_path / "out", order="when")
    write_parquet(tmp_path / "t.parquet", layout, kinds, tmp_path / "out", order="when", skip_untimed=True, every=every)
    expected = table.dropna(subset="when").sort_values("when", kind="stable")[::every].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), expected, check_dtype=False)


def test_a_sample_has_every_nth_row_across_groups_of_rows(tmp_path):
    table = pd.DataFrame({"row": np.arange(100_001.0), "kind": np.resize(["a", None, "c"], 100_001)})
    table.to_parquet(tmp_path / "t.parquet", index=False, row_group_size=3000)
    some = sample_parquet(tmp_path / "t.parquet", cells=50_000)
    pd.testing.assert_frame_equal(some, table[::5].reset_index(drop=True))
    assert len(sample_parquet(tmp_path / "t.parquet", cells=200_002)) == 100_001
