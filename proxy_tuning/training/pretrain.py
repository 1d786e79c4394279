"""Pre-train the pocket family's M and M- from scratch: `python -m proxy_tuning.training.pretrain`.

Both are GPT-2 in architecture and have the same width; M- has half of M's layers, as distilGPT-2
has half of GPT-2's. M- is trained first, M grows out of it, and both read the same text
(polls/history.py). On two CPU cores each takes about a quarter of an hour.
"""

import argparse

import pandas as pd
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
    set_seed,
)

from proxy_tuning.families import load_part
from proxy_tuning.polls.history import pretraining_rows
from proxy_tuning.polls.tables import load_facts
from proxy_tuning.prompts import prompt
from proxy_tuning.records import DATA, ROOT, WORK, replaced_folder, write_json
from proxy_tuning.training.optim import MuonAdamW, computes_in_bf16
from proxy_tuning.training.packing import encode
from proxy_tuning.training.trainers import PackedTrainer

HERE = ROOT / "proxy_tuning" / "families" / "pocket"
LAYERS = {"antiexpert": 3, "base": 6}
EPOCHS = {"antiexpert": 0.85, "base": 0.4}  # M goes on from M-
LEARNING_RATE = {"antiexpert": 6e-3, "base": 3e-3}  # the highest; it falls linearly to zero
WIDTH, HEADS, CONTEXT, VOCABULARY = 256, 8, 128, 1024
SHARE = 0.3  # of the way that M went from M-; see `average`
EOS = "<|endoftext|>"


def train_tokenizer(texts):
    """GPT-2's byte-level BPE, learnt from `texts`, with every digit a token of its own.

    A digit after a space has that space in its token, as words have.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[EOS],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        bos_token=EOS,
        pad_token=EOS,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def new_model(part, tokenizer):
    """A random GPT-2 of the pocket size: `part` is base (M) or antiexpert (M-)."""
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=LAYERS[part],
            n_embd=WIDTH,
            n_head=HEADS,
            n_positions=CONTEXT,
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )


def grow(small, tokenizer):
    """M with the weights of M-, and after each of its layers a new one that changes nothing yet.

    Growing deepens a trained model for a fraction of the steps, and M and M- then agree on what
    neither of them knows, as a distilled model agrees with its teacher.
    """
    model = new_model("base", tokenizer)
    old, new = small.transformer, model.transformer
    for name in ("wte", "wpe", "ln_f"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    for i, block in enumerate(new.h):
        if i % 2 == 0:
            block.load_state_dict(old.h[i // 2].state_dict())
        else:
            torch.nn.init.zeros_(block.attn.c_proj.weight)
            torch.nn.init.zeros_(block.mlp.c_proj.weight)
    return model


def average(start, end, share):
    """`end` moved back towards the weights of `start`, of which it keeps 1 - share.

    Along the way from one to the other what was learnt comes early and what drifted comes late
    (Wortsman et al. 2022): a M near M- still knows the past, and agrees with M- elsewhere.
    """
    weights = start.state_dict()
    end.load_state_dict({k: torch.lerp(weights[k], w, share) for k, w in end.state_dict().items()})


def save_half(model, tokenizer, folder):
    """Write the model in half precision with its tokenizer, beside its place, then rename."""
    with replaced_folder(folder) as beside:
        model.half().save_pretrained(beside)
        tokenizer.save_pretrained(beside)


def pretrain(part, batch_size, seed):
    """Train one part on the pre-2024 text and write it to pocket/`part`; M needs M- there."""
    set_seed(seed)
    rows = pretraining_rows(load_facts(DATA))
    if part == "antiexpert":
        asked = rows["question"].notna()
        texts = rows["answer"].where(
            ~asked, rows["question"].map(prompt, na_action="ignore") + " " + rows["answer"]
        )
        tokenizer = train_tokenizer(texts)
        model = new_model(part, tokenizer)
    else:
        small, tokenizer = load_part(HERE / "antiexpert")
        model = grow(small, tokenizer)
    data = encode(rows, tokenizer, CONTEXT)
    print(
        f"{part}: {model.num_parameters():,} parameters, {len(data):,} texts, "
        f"{sum(map(len, data['input_ids'])):,} tokens",
        flush=True,
    )
    arguments = TrainingArguments(
        output_dir=str(WORK / "pretrain"),
        num_train_epochs=EPOCHS[part],
        learning_rate=LEARNING_RATE[part],
        per_device_train_batch_size=batch_size,
        lr_scheduler_type="linear",
        warmup_steps=100,
        bf16=computes_in_bf16(),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        logging_steps=100,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
    )
    trainer = PackedTrainer(
        model,
        arguments,
        train_dataset=data,
        optimizers=(MuonAdamW(model, LEARNING_RATE[part]), None),
    )
    trainer.train()
    if part == "base":
        average(grow(small, tokenizer), model, SHARE)
    save_half(model, tokenizer, HERE / part)
    record = {
        "epochs": EPOCHS[part],
        "learning_rate": LEARNING_RATE[part],
        "batch_size": batch_size,
        "seed": seed,
        "texts": len(data),
        "final_loss": pd.DataFrame(trainer.state.log_history)["loss"].dropna().iloc[-1],
        "torch": torch.__version__,
    }
    write_json(HERE / part / "pretraining.json", record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[*LAYERS, "both"], default="both")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    part = options.pop("part")
    for each in LAYERS if part == "both" else [part]:
        pretrain(each, **options)
