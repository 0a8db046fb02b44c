"""What committees ask, and which checks answer it; what no program can answer says what a person must judge."""

import dataclasses

__all__ = ["DOCUMENTS", "Document", "Question"]


@dataclasses.dataclass(frozen=True)
class Question:
    """One thing that a committee wants to know.

    Arguments:
        title: what it is about.
        checks: names of the checks that bear on it.
        judge: what remains for a person; empty if nothing does.
    """

    title: str
    checks: tuple[str, ...] = ()
    judge: str = ""


@dataclasses.dataclass(frozen=True)
class Document:
    """A checklist.

    Arguments:
        name: of its file.
        title: headline.
        source: where the original is.
        questions: in the order of the original.
    """

    name: str
    title: str
    source: str
    questions: tuple[Question, ...]


_ACM = Document(
    "acm",
    "ACM artifact badges",
    "https://www.acm.org/publications/policies/artifact-review-and-badging-current",
    (
        Question(
            "Artifacts Available",
            ("archived", "licence_file", "licence_id", "data_public", "weights_kept"),
            "whether the archive behind the DOI is meant to last and holds this version.",
        ),
        Question(
            "Artifacts Evaluated: Functional",
            (
                *("documented", "commands_documented", "environment_locked", "commands_work", "rendered", "audited"),
                *("tests_there", "time_told", "disk_told"),
            ),
            "whether the documentation is enough to run everything elsewhere: `make reproduce`, `make test`.",
        ),
        Question(
            "Artifacts Evaluated: Reusable",
            ("licence_id", "documented", "tests_there", "settings_recorded", "data_licensed", "data_tracked"),
            "whether structure and documentation go so far beyond Functional that others can build on it.",
        ),
        Question(
            "Results Reproduced",
            (
                "commands_work",
                "runs_repeated",
                "spread_told",
                "all_measured",
                "all_reproduced",
                "differences_explained",
            ),
            "whether somebody other than the authors has obtained the main results with these artifacts.",
        ),
    ),
)

_NEURIPS = Document(
    "neurips",
    "NeurIPS paper checklist",
    "https://neurips.cc/public/guides/PaperChecklist",
    (
        Question("1. Claims", ("all_reproduced",), "whether abstract and introduction claim what the results show."),
        Question("2. Limitations", ("differences_explained",), "whether the text discusses the limitations."),
        Question("3. Theory, assumptions and proofs", (), "whether each theorem has its assumptions and a proof."),
        Question(
            "4. Reproducibility of the experiments",
            ("commands_work", "settings_recorded", "code_identified", "audited"),
            "whether the text alone tells enough of the experiments.",
        ),
        Question(
            "5. Access to data and code",
            ("archived", "commands_documented", "environment_locked", "data_public", "weights_kept"),
            "whether the link in the text leads there, anonymously where that is asked for.",
        ),
        Question(
            "6. Settings of the experiments",
            ("settings_recorded", "seeds_recorded"),
            "whether the text says how splits and hyperparameters were chosen.",
        ),
        Question(
            "7. Statistical significance",
            ("runs_repeated", "spread_told"),
            "whether the text says what the spread is taken over, and whether its assumptions hold.",
        ),
        Question("8. Computing resources", ("environment_recorded", "time_told", "disk_told", "compute_told")),
        Question("9. Code of ethics", (), "whether the research conforms to it."),
        Question("10. Broader impacts", (), "whether the text discusses good and bad ones."),
        Question("11. Safeguards", (), "whether the models or data could be misused, and what is done against it."),
        Question(
            "12. Licences of assets used",
            ("data_licensed",),
            "whether the text credits their owners and the use respects their terms.",
        ),
        Question(
            "13. New assets", ("licence_file", "licence_id", "documented"), "whether their description is complete."
        ),
        Question(
            "14. Crowdsourcing and human subjects", (), "whether there were any, and how they were instructed and paid."
        ),
        Question("15. Approval by a review board", (), "whether one was needed, and given."),
        Question("16. Use of language models", (), "whether one is part of the method, and declared."),
    ),
)

_MLRC = Document(
    "mlrc",
    "Machine learning reproducibility checklist",
    "https://www.cs.mcgill.ca/~jpineau/ReproducibilityChecklist-v2.0.pdf",
    (
        Question("Models: setting, algorithm, assumptions", (), "whether the text describes each clearly."),
        Question("Models: complexity", (), "whether time, space and number of samples are analysed."),
        Question("Theory: statements and proofs", (), "whether each claim is stated clearly and proved in full."),
        Question("Data: statistics and splits", (), "whether the text gives sizes, splits, and what was left out."),
        Question("Data: how to get it", ("data_public", "data_licensed", "data_tracked")),
        Question("Data: newly collected", (), "whether there is any, and how its quality was controlled."),
        Question("Code: dependencies", ("environment_locked", "environment_recorded")),
        Question("Code: training and evaluation", ("commands_work", "code_identified", "tests_there")),
        Question("Code: trained models", ("weights_kept",)),
        Question("Code: README with results and the commands behind them", ("documented", "commands_documented")),
        Question(
            "Results: hyperparameters",
            ("settings_recorded",),
            "whether the text says which ranges were searched, and by what criterion one was chosen.",
        ),
        Question(
            "Results: number of training and evaluation runs", ("seeds_recorded", "runs_repeated", "compute_told")
        ),
        Question("Results: definition of the measures", (), "whether the text defines each measure."),
        Question("Results: central tendency and variation", ("spread_told",)),
        Question("Results: run time of each", ("time_told",)),
        Question("Results: computing infrastructure", ("environment_recorded", "compute_told", "disk_told")),
        Question(
            "Reproduction: what was reproduced, and what was not",
            ("all_measured", "all_reproduced", "differences_explained"),
            "whether the conclusions drawn from it are right, and whether the authors of the papers were asked.",
        ),
    ),
)

DOCUMENTS: tuple[Document, ...] = (_ACM, _NEURIPS, _MLRC)
