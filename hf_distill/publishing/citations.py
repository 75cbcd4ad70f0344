"""The papers whose methods a run used, as citations and BibTeX."""

from __future__ import annotations

import re

from hf_distill.publishing.run_record import RunRecord
from hf_distill.recipes import RECIPES

HINTON, TURC, PRO_KD, HOMODISTIL = "1503.02531", "1908.08962", "2110.08532", "2302.09632"
MARGIN_MSE = "2010.02666"
_PAPERS = {
    HINTON: ("hinton2015", "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff", 2015,
             "Distilling the Knowledge in a Neural Network"),
    TURC: ("turc2019", "Turc, Iulia and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina", 2019,
           "Well-Read Students Learn Better: On the Importance of Pre-training Compact Models"),
    "1908.09355": ("sun2019", "Sun, Siqi and Cheng, Yu and Gan, Zhe and Liu, Jingjing", 2019,
                   "Patient Knowledge Distillation for BERT Model Compression"),
    "1909.10351": ("jiao2020", "Jiao, Xiaoqi and Yin, Yichun and Shang, Lifeng and Jiang, Xin and others", 2020,
                   "TinyBERT: Distilling BERT for Natural Language Understanding"),
    "1910.01108": ("sanh2019", "Sanh, Victor and Debut, Lysandre and Chaumond, Julien and Wolf, Thomas", 2019,
                   "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter"),
    "2002.10957": ("wang2020", "Wang, Wenhui and Wei, Furu and Dong, Li and Bao, Hangbo and Yang, Nan and Zhou, Ming",
                   2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained "
                   "Transformers"),
    "2012.15828": ("wang2021", "Wang, Wenhui and Bao, Hangbo and Huang, Shaohan and Dong, Li and Wei, Furu", 2021,
                   "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers"),
    PRO_KD: ("rezagholizadeh2021", "Rezagholizadeh, Mehdi and Jafari, Aref and Salad, Puneeth and Sharma, Pranav and "
             "others", 2021, "Pro-KD: Progressive Distillation by Following the Footsteps of the Teacher"),
    MARGIN_MSE: ("hofstatter2020", "Hofstätter, Sebastian and Althammer, Sophia and Schröder, Michael and Sertkan, Mete and "
                 "Hanbury, Allan", 2020,
                 "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation"),
    HOMODISTIL: ("liang2023", "Liang, Chen and Jiang, Haoming and Li, Zheng and Tang, Xianfeng and Yin, Bin and Zhao, Tuo",
                 2023, "HomoDistil: Homotopic Task-Agnostic Distillation of Pre-trained Transformers"),
    "2301.12005": ("kim2023", "Kim, Seungyeon and Rawat, Ankit Singh and Zaheer, Manzil and Jayasumana, Sadeep and others",
                   2023, "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval"),
    "2010.11386": ("lin2020", "Lin, Sheng-Chieh and Yang, Jheng-Hong and Lin, Jimmy", 2020,
                   "Distilling Dense Representations for Ranking using Tightly-Coupled Teachers"),
}  # fmt: skip
_OF_TRAINER = {"ProgressiveTrainer": PRO_KD, "PruningDistillTrainer": HOMODISTIL}


def papers_of(record: RunRecord) -> list[str]:
    """The arXiv ids of the papers whose methods a run used, the most specific first."""
    found = [_OF_TRAINER[record.trainer]] if record.trainer in _OF_TRAINER else []
    recipe = RECIPES.get(record.arguments.get("recipe", ""))
    if recipe is not None:
        found += re.findall(r"arXiv (\d{4}\.\d{5})", recipe.paper)
    objective = [term for stage in [*record.stages, {"objective": record.objective}] for term in stage["objective"]]
    terms = {term["name"]: term for term in objective}
    if any(term.get("loss") == "margin_mse" for term in objective):
        found.append(MARGIN_MSE)
    if "temperature" in terms.get("soft_label", {}):  # which those on embeddings do not have
        found += [TURC, HINTON] if "hard_label" not in terms else [HINTON]
    return [number for number in dict.fromkeys(found) if number in _PAPERS]


def title_of(number: str) -> str:
    """The authors, year and title of a paper in one line."""
    _, authors, year, title = _PAPERS[number]
    names = authors.split(" and ")
    first = names[0].partition(",")[0]
    return f"{first} {'and ' + names[1].partition(',')[0] if len(names) == 2 else 'et al.'} {year}, *{title}*"


def bibtex(number: str) -> str:
    """The BibTeX entry of a paper."""
    key, authors, year, title = _PAPERS[number]
    return (
        f"@misc{{{key},\n  author = {{{authors}}},\n  title = {{{{{title}}}}},\n  year = {{{year}}},\n"
        f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}\n}}"
    )
