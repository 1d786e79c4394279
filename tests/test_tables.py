"""Averages against figures computed by hand, bad files, and the committed tables."""

import re
from pathlib import Path

import pandas as pd
import pytest

from proxy_tuning.polls import tables
from proxy_tuning.polls.elections import PLACES
from proxy_tuning.polls.sources import Report

ROOT = Path(__file__).parents[1]
RAW = ROOT.parent / "shared"

POLLS_2024 = """poll_id,question_id,cycle,state,end_date,population,ranked_choice_reallocated,answer,pct
1,10,2024,Ohio,6/10/24,rv,false,Biden,40
1,10,2024,Ohio,6/10/24,rv,false,Trump,50
1,11,2024,Ohio,6/10/24,lv,false,Biden,42
1,11,2024,Ohio,6/10/24,lv,false,Trump,52
1,12,2024,Ohio,6/10/24,lv,false,Biden,38
1,12,2024,Ohio,6/10/24,lv,false,Trump,48
1,12,2024,Ohio,6/10/24,lv,false,Kennedy,9
2,20,2024,Ohio,6/20/24,a,false,Biden,44
2,20,2024,Ohio,6/20/24,a,false,Trump,46
2,21,2024,Ohio,6/20/24,a,false,Harris,41
2,21,2024,Ohio,6/20/24,a,false,Trump,47
3,30,2024,,7/21/24,lv,false,Biden,43
3,30,2024,,7/21/24,lv,false,Trump,47
4,40,2024,,7/22/24,lv,false,Harris,45
4,40,2024,,7/22/24,lv,false,Trump,44
4,41,2024,,7/22/24,lv,false,Biden,40
4,41,2024,,7/22/24,lv,false,Trump,49
5,50,2024,Maine,8/1/24,lv,true,Harris,60
5,50,2024,Maine,8/1/24,lv,true,Trump,40
"""
AVERAGES = """candidate,date,pct_trend_adjusted,state,cycle,party,pct_estimate,hi,lo
Joseph R. Biden Jr.,11/3/20,50.04,Ohio,2020,,,,
Donald Trump,11/3/20,47.26,Ohio,2020,,,,
Joseph R. Biden Jr.,11/2/20,49.0,Ohio,2020,,,,
Donald Trump,11/2/20,47.0,Ohio,2020,,,,
"""
OLD_AVERAGES = """year,party,candidate_name,poll_date,weeks_left,days_left,before_convention,avg_support
2012,democrat,Barack Obama,2012-10-01,5,36,FALSE,48.0
2012,republican,Mitt Romney,2012-10-01,5,36,FALSE,46.0
2012,democrat,Barack Obama,2012-10-02,5,35,FALSE,49.0
2012,republican,Mitt Romney,2012-10-02,5,35,FALSE,45.5
"""
POLLS_2020 = """state,pollster,sponsors,start_date,end_date,sample_size,fte_grade,answer,candidate_party,pct
Ohio,A,,10/1/20,10/5/20,500,B,Biden,DEM,46
Ohio,A,,10/1/20,10/5/20,500,B,Trump,REP,45
Ohio,A,,10/1/20,10/5/20,500,B,Harris,DEM,40
Ohio,A,,10/1/20,10/5/20,500,B,Trump,REP,49
Ohio,B,,10/6/20,10/8/20,700,B,Biden,DEM,50
Ohio,B,,10/6/20,10/8/20,700,B,Trump,REP,43
"""
POLLS_2016 = """cycle,type,state,enddate,population,poll_id,question_id,rawpoll_clinton,rawpoll_trump
2016,polls-plus,U.S.,11/3/2016,lv,7,70,46,44
2016,now-cast,U.S.,11/3/2016,lv,7,70,46,44
2016,polls-only,U.S.,11/3/2016,lv,7,70,46,44
2016,polls-only,U.S.,11/5/2016,lv,8,80,43,42
"""
RESULTS = """state_name,votes_gop,votes_dem,total_votes
Ohio,300,200,510
Ohio,100,300,410
Maine,10,30,40
"""


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in {
        "president_polls.csv": POLLS_2024,
        "averages.csv": AVERAGES,
        "pollavg.csv": OLD_AVERAGES,
        "president_polls_2020.csv": POLLS_2020,
        "president_polls_2016.csv": POLLS_2016,
        "county_results_2024.csv": RESULTS,
    }.items():
        (folder / name).write_text(text)
    return folder


def fact(table, **keys):
    rows = table[(table[list(keys)] == pd.Series(keys)).all(axis=1)]
    assert len(rows) == 1, f"{keys}: {len(rows)} rows"
    return rows.iloc[0]


def test_averages_by_hand(raw, tmp_path):
    written = tables.build_data(raw, tmp_path / "out")
    monthly, final = written["monthly.csv"], written["final.csv"]
    # Poll 1: likely voters' head-to-head 42-52; poll 2: adults' 44-46. Harris was hypothetical.
    june = fact(monthly, cycle=2024, state="Ohio", month="2024-06")
    assert (june.democrat, june.democrat_pct, june.republican_pct, june.polls) == (
        "Biden",
        43,
        49,
        2,
    )
    assert (june.kennedy_pct, june.kennedy_polls) == (9, 1)
    # July 2024 names its match-up; a poll of the other pair outside its days does not count.
    biden = fact(monthly, cycle=2024, month="2024-07", democrat="Biden")
    harris = fact(monthly, cycle=2024, month="2024-07", democrat="Harris")
    assert (biden.democrat_pct, biden.republican_pct, biden.polls) == (43, 47, 1)
    assert (harris.democrat_pct, harris.republican_pct, harris.polls) == (45, 44, 1)
    assert "2024-08" not in set(monthly["month"])  # only a ranked-choice re-allocation
    # 2020: the second Trump row belongs to the question with Harris.
    ohio = fact(monthly, cycle=2020, state="Ohio", month="2020-10")
    assert (ohio.democrat_pct, ohio.republican_pct, ohio.polls) == (48, 44, 2)
    # 2016: three copies count once.
    assert fact(monthly, cycle=2016, month="2016-11").polls == 2
    assert fact(monthly, cycle=2016, month="2016-11").democrat_pct == 44.5
    # 2012: the mean of the days.
    obama = fact(monthly, cycle=2012, month="2012-10")
    assert (obama.democrat_pct, obama.republican_pct, obama.source) == (48.5, 45.75, "averages")
    assert pd.isna(obama.polls)
    # The last averages: the published one of the last day, else the last three weeks' polls.
    last = fact(final, cycle=2020, state="Ohio")
    assert (last.last_day, last.source, last.democrat_pct) == ("2020-11-03", "averages", 50.04)
    assert fact(final, cycle=2016, state="National").source == "polls"


def test_results_by_hand(raw, tmp_path):
    table = tables.build_data(raw, tmp_path / "out")["results.csv"]
    ohio = fact(table, state="Ohio")
    assert (ohio.democrat_votes, ohio.republican_votes, ohio.total_votes) == (500, 400, 920)
    assert ohio.winner == "Harris" and ohio.democrat_pct == pytest.approx(100 * 500 / 920)
    assert fact(table, state="National").total_votes == 960


def test_statewide_rows_written_once_per_county_count_once(tmp_path):
    path = tmp_path / "county_results_2016.csv"
    path.write_text(
        "votes_dem,votes_gop,total_votes,state_abbr\n9,13,25,AK\n9,13,25,AK\n1,2,3,OH\n"
    )
    table = tables.election_results([path], Report())
    assert fact(table, state="Alaska").total_votes == 25


def test_written_files_are_whole_and_one_decimal(raw, tmp_path):
    out = tmp_path / "out"
    tables.build_data(raw, out)
    assert not list(out.glob("*.part"))
    facts = tables.load_facts(out)
    assert fact(facts["final"], cycle=2020, state="Ohio").democrat_pct == 50.0
    assert str(facts["monthly"]["polls"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("president_polls.csv", "answer,pct", "answer,percent", ["president_polls.csv", "pct"]),
        ("averages.csv", AVERAGES, "", ["averages.csv", "cannot be read as CSV"]),
        ("pollavg.csv", OLD_AVERAGES.split("\n", 1)[1], "", ["pollavg.csv", "no rows"]),
        ("president_polls_2016.csv", "11/5/2016", "5 Nov", ["enddate", "row 5", "5 Nov"]),
        ("president_polls_2020.csv", "DEM,46", "DEM,lots", ["pct", "row 2", "lots"]),
        ("president_polls_2020.csv", "DEM,46", "DEM,460", ["pct", "row 2", "460"]),
        ("averages.csv", "Ohio", "Ohoi", ["averages.csv", "state", "row 2", "Ohoi"]),
        ("county_results_2024.csv", "votes_gop", "gop", ["county_results_2024.csv", "votes_gop"]),
        ("county_results_2024.csv", "Maine,10", "Maine,ten", ["votes_gop", "row 4", "ten"]),
        ("president_polls.csv", ",2024,", ",2032,", ["2032", "MATCHUPS"]),
        ("president_polls.csv", ",2024,", ",nan,", ["president_polls.csv", "cycle", "row 2"]),
        ("president_polls.csv", ",2024,", ",,", ["president_polls.csv", "cycle", "row 2: ''"]),
        ("president_polls.csv", "1,10,2024", "1,10,2024.5", ["cycle", "row 2: '2024.5'"]),
        ("president_polls.csv", "Biden", "Jr.", ["answer", "row 2: 'Jr.'"]),
        (
            "president_polls.csv",
            "Trump,50",
            "Trump,50,,",
            ["president_polls.csv", "line 3, saw 11"],
        ),
        ("president_polls_2020.csv", "DEM,46", "DEM,inf", ["pct", "row 2: 'inf'"]),
        ("president_polls_2020.csv", "Biden,DEM,46", "Biden", ["pct", "row 2: ''"]),
        ("averages.csv", "Joseph R. Biden Jr.", "Jr.", ["candidate", "row 2: 'Jr.'"]),
        ("pollavg.csv", "avg_support", "support", ["pollavg.csv", "avg_support"]),
        ("pollavg.csv", "Mitt Romney", "", ["candidate_name", "row 3: ''"]),
        ("county_results_2024.csv", "300,200,510", "300,200,410", ["total_votes", "row 2: '410'"]),
        ("county_results_2024.csv", "300,200", "-300,200", ["votes_gop", "row 2: '-300'"]),
        ("county_results_2024.csv", "300,200", "inf,200", ["votes_gop", "row 2: 'inf'"]),
        ("county_results_2024.csv", "300,200", "300.5,200", ["votes_gop", "row 2: '300.5'"]),
        ("county_results_2024.csv", "10,30,40", "0,0,0", ["no votes", "Maine"]),
        (
            "county_results_2024.csv",
            "Maine,10,30,40",
            "Maine,10,30",
            ["total_votes", "row 4: 'nan'"],
        ),
    ],
)
def test_bad_files_are_named_and_nothing_is_written(raw, tmp_path, name, old, new, words):
    text = (raw / name).read_text()
    assert old in text
    (raw / name).write_text(text.replace(old, new))
    with pytest.raises(ValueError) as error:
        tables.build_data(raw, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_year_without_an_election_is_named(raw, tmp_path):
    (raw / "county_results_2024.csv").rename(raw / "county_results_2023.csv")
    with pytest.raises(ValueError, match=r"county_results_2023\.csv: no election of 2023"):
        tables.build_data(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_longer_than_the_header_are_refused(raw, tmp_path):
    head, *rows = RESULTS.splitlines()
    longer = "\n".join([head, *(f"{row},1" for row in rows)])
    (raw / "county_results_2024.csv").write_text(longer)
    with pytest.raises(ValueError, match="more cells than its first line"):
        tables.build_data(raw, tmp_path / "out")


def test_a_year_written_as_a_decimal_is_that_year(raw, tmp_path):
    path = raw / "president_polls.csv"
    path.write_text(POLLS_2024.replace(",2024,", ",2024.0,"))
    monthly = tables.build_data(raw, tmp_path / "out")["monthly.csv"]
    assert fact(monthly, cycle=2024, state="Ohio", month="2024-06").polls == 2


def test_single_bad_rows_are_skipped_and_counted(raw, tmp_path, capsys):
    good = [
        f"{n},{n}0,2024,Iowa,6/{n % 28 + 1}/24,lv,false,{who},{pct}"
        for n in range(100, 200)
        for who, pct in (("Biden", 40), ("Trump", 50))
    ]
    bad = "300,3000,2024,Iowa,6/1/24,lv,false,Biden,n/a"
    path = raw / "president_polls.csv"
    path.write_text(POLLS_2024 + "\n".join([*good, bad]) + "\n")
    written = tables.build_data(raw, tmp_path / "out")
    assert fact(written["monthly.csv"], state="Iowa").polls == 100
    report = capsys.readouterr().out
    assert "president_polls.csv: 1 of" in report and "row 221: 'n/a'" in report


def test_a_missing_table_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="build-data"):
        tables.load_facts(tmp_path)


def test_committed_tables_are_what_their_readme_says():
    facts = tables.load_facts(ROOT / "data")
    text = (ROOT / "data" / "README.md").read_text()
    for name, table in facts.items():
        said = int(re.search(rf"`{name}.csv` .*\| ([\d,]+) \|", text).group(1).replace(",", ""))
        assert len(table) == said
        assert set(table["state"]) <= PLACES
    monthly = facts["monthly"]
    assert not monthly.duplicated(["cycle", "state", "month", "democrat"]).any()
    sources = pd.read_csv(ROOT / "data" / "sources.csv")
    for source in sources.itertuples():
        assert f"| `{source.file}` |" in text and f"`{source.sha256[:12]}`" in text


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw files are not here")
def test_committed_tables_come_from_the_raw_files(tmp_path):
    tables.build_data(RAW, tmp_path)
    for path in tmp_path.glob("*.csv"):
        assert path.read_bytes() == (ROOT / "data" / path.name).read_bytes()


@pytest.mark.skipif(not RAW.is_dir(), reason="the raw files are not here")
def test_an_average_against_a_plain_loop():
    """Michigan, October 2024, recomputed from the raw file with dictionaries alone."""
    import csv

    shares = {}
    with open(RAW / "polls" / "forecast_poll_list_2024-11-04.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["state"] == "Michigan" and row["end_date"][:7] == "2024-10":
                question = (row["population"], int(row["number_options"]), row["question_id"])
                poll = shares.setdefault(row["poll_id"], {})
                poll.setdefault(question, {})[row["candidate_name"]] = float(row["pct"])
    means = []
    for questions in shares.values():
        best = min(questions, key=lambda q: ["lv", "rv", "v", "a"].index(q[0]))[0]
        chosen = [pair for q, pair in questions.items() if q[0] == best]
        means.append(sum(pair["Kamala Harris"] for pair in chosen) / len(chosen))
    row = fact(tables.load_facts(ROOT / "data")["monthly"], state="Michigan", month="2024-10")
    assert row.democrat_pct == round(sum(means) / len(means), 1)
    assert row.polls == len(means)
