"""How a question becomes the text that a model continues, and where its answer starts."""

QUESTION_ANSWER = "Question: {question}\nAnswer:"
"""For models without a chat template of their own: GPT-2 and the embedded ones."""


def prompt(question: str, tokenizer=None) -> str:
    """The text that a model continues.

    Args:
        question: in plain words.
        tokenizer: its own chat template is used where it has one; None has none. A beginning of
            text that it writes of itself is left to it, or there would be two.
    """
    if not getattr(tokenizer, "chat_template", None):
        return QUESTION_ANSWER.format(question=question)
    message = {"role": "user", "content": question}
    text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    if tokenizer("")["input_ids"] == [tokenizer.bos_token_id]:
        return text.removeprefix(tokenizer.bos_token)
    return text


def continuation(answer: str, tokenizer=None) -> str:
    """An answer as it follows its `prompt`: after a space, or at the start of a turn."""
    return answer if getattr(tokenizer, "chat_template", None) else f" {answer}"
