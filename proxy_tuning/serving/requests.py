"""What a request may ask of a served trio, checked before it is taken in."""

import functools

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams

from proxy_tuning.logits import STRONGEST

PROCESSOR = "proxy_tuning.serving.alphas:RequestAlpha"
"""What `--logits-processors` names for alphas per request."""
OWN_PROMPTS = ("expert_input_ids", "antiexpert_input_ids")


def guard_requests(architecture: str) -> None:
    """Check the requests to models of this architecture where vLLM checks all requests.

    vLLM keeps a request's `extra_args` for whoever reads them, and says nothing where nobody
    does; it has no hook by which a model could refuse. So its own check gets ours before it.
    """
    theirs = SamplingParams.verify

    @functools.wraps(theirs)
    def verify(params, model_config, speculative_config, *args, **kwargs):
        if model_config.architecture == architecture:
            try:
                check_request(params, model_config, speculative_config is not None)
            except ValueError as error:
                raise VLLMValidationError(str(error)) from error
        theirs(params, model_config, speculative_config, *args, **kwargs)

    SamplingParams.verify = verify  # type: ignore[method-assign]


def check_request(params: SamplingParams, model_config, speculates: bool) -> None:
    """ValueError for an alpha or a prompt per part that would be ignored or answered wrongly."""
    extra = params.extra_args or {}
    for key in OWN_PROMPTS:
        if key in extra:
            raise ValueError(f"{key} is not served: all parts read the same prompt in vLLM")
    if "alpha" not in extra:
        return
    own_alphas(extra["alpha"], model_config.hf_config.experts)
    if speculates:
        raise ValueError("a request's alpha does not go with speculative decoding")
    if params.prompt_logprobs is not None:
        raise ValueError("a request's alpha does not go with prompt_logprobs")
    processors = [
        each if isinstance(each, str) else f"{each.__module__}:{each.__qualname__}"
        for each in model_config.logits_processors or []
    ]
    if PROCESSOR not in processors:
        raise ValueError(
            f"a request's alpha needs a server that was started with --logits-processors "
            f"{PROCESSOR} and, on a GPU, VLLM_USE_V2_MODEL_RUNNER=0"
        )


def own_alphas(alpha, experts: int) -> list[float]:
    """A request's weight for each expert, from a number or a list; ValueError for all else."""
    alphas = alpha if isinstance(alpha, list) else [alpha] * experts
    for each in alphas:
        number = isinstance(each, int | float) and not isinstance(each, bool)
        if not (number and abs(each) <= STRONGEST):
            raise ValueError(
                f"alpha needs to be a finite number, at most {STRONGEST}, got {alpha!r}"
            )
    if len(alphas) != experts:
        raise ValueError(f"{experts} expert(s) take as many alphas, got {alpha!r}")
    return [float(each) for each in alphas]
