"""Local experts: an M+ for one question, tuned for seconds on the facts nearest to it.

Tuning a small proxy in the neighbourhood of a query is the first half of LoFT (arXiv 2310.04445);
its other half, attacks on the model that is steered, is not here.
"""

import contextlib
import io

import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import TrainingArguments, set_seed

from proxy_tuning.training.finetune import longest, with_adapter
from proxy_tuning.training.optim import computes_in_bf16
from proxy_tuning.training.packing import encode
from proxy_tuning.training.trainers import PackedTrainer


class Neighbours:
    """Finds the rows whose question and answer share the rarest words with a question.

    Args:
        rows: with the columns question and answer.
    """

    def __init__(self, rows: pd.DataFrame):
        self.rows = rows.reset_index(drop=True)
        self.words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        self.known = self.words.fit_transform(rows["question"] + " " + rows["answer"])

    def nearest(self, question: str, count: int) -> pd.DataFrame:
        """The `count` nearest rows with different answers, nearest first."""
        likeness = (self.known @ self.words.transform([question]).T).toarray()[:, 0]
        order = self.rows.iloc[(-likeness).argsort(kind="stable")]
        return order.drop_duplicates("answer").head(count)


@contextlib.contextmanager
def local_expert(antiexpert, tokenizer, rows, *, steps=12, rank=8, learning_rate=2e-3):
    """M- with a LoRA adapter tuned on a few rows: an M+ while the context lasts, then M- again.

    Args:
        antiexpert: M-, a model without an adapter; it is not changed in the end.
        tokenizer: of M-.
        rows: questions and answers; every step sees all of them.
        steps, rank, learning_rate: of the adapter, by AdamW; the rate falls linearly to zero.
    """
    set_seed(0)
    model = with_adapter(antiexpert, rank)
    arguments = TrainingArguments(
        output_dir="unused",
        max_steps=steps,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        per_device_train_batch_size=len(rows),
        bf16=computes_in_bf16(),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
    )
    data = encode(rows, tokenizer, longest(model))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            PackedTrainer(model, arguments, train_dataset=data).train()
        yield model.eval()
    finally:
        model.unload()
        antiexpert.requires_grad_(False).eval()
