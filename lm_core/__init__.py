"""LM Lab's subject: a language model small enough to read, in plain PyTorch.

Read the modules in this order; each stands only on those before it:

    device · bpe_merges · tokenizer · positions · masks · probability · optim · metrics     no neural network yet
    attention · layers                                           one head, many heads; norms and the feed-forward part
    sampling · ops · config · block                              choosing a token; exchangeable parts; one block
    model · encoder · plain_model                                a whole GPT-2 or Llama; a whole BERT; without classes
    head_measures · head_parts · ablation                        what heads look at, write and are worth
    generation · trace_arrays                                    text out; every intermediate as an array
    checkpoint_config · checkpoint_names · safetensors_file · model_folder · hub · checkpoint       files in and out
    data · training_step · training_state · pretrain · recipe · evaluate         learning, and how well it went
    adapters · labels · batches · learner · doctor · finetune    learning a style or a task from a little text
    adapter_files · learner_files · finetune_run                 what a fine-tune leaves behind; one from a file
    learned_positions · position_experiments                     where words stand: learned, moved, taken away
    quantise · linear_probe                                      numbers in eight bits; the smallest training run
    exercises · judge                                            write these functions yourself; what is wrong, and why

`python -m lm_core --help` runs them from the command line.
"""
